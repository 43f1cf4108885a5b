// Rung 7, samples in lanes: a thread takes two neighbours along n. They share weights, addresses and the loop.
//
//   The formulas of rung 6 on Samples, two floats that are read and written as one. LANES is 1 if N is odd.
//
// Order:   as rung 6, for each sample; the slopes of a thread's samples are added first.
// Threads: one for LANES samples of a column.
// Bytes:   as rung 6.
// Source:  Volkov, "Better performance at lower occupancy", 2010: more work for each thread instead of more threads.
#include "weights.cuh"

extern "C" __global__ void lanes_pool_fprop(const float *x, float *y, const float *rows, const float *cols, int C,
                                            int H, int W, int P, int Q, int N, float beta) {
    int i = (blockIdx.x * blockDim.x + threadIdx.x) * LANES, q = i / N, n = i % N, c = blockIdx.z, set = c * KERNELS;
    if (i >= Q * N) return;
    const float *plane = x + (count_t)c * H * W * N + n, *down = rows + (count_t)set * P * 3 * R;
    float along[KERNELS][S];
    Samples sums[KERNELS][DEEP] = {};
#pragma unroll
    for (int j = 0; j < KERNELS; j++)
#pragma unroll
        for (int s = 0; s < S; s++) along[j][s] = cols[((count_t)(set + j) * Q + q) * 3 * S + s];
#pragma unroll 1
    for (int p = PY / SY; p < P + DEEP - 1; p++) { // from the first rows inside the image
#pragma unroll
        for (int d = 0; d < SY; d++) {
            const float *line = plane + (count_t)within(p * SY - PY + d, H) * W * N;
            Samples across[KERNELS] = {};
#pragma unroll
            for (int s = 0; s < S; s++) {
                Samples value = *(const Samples *)(line + within(q * SX - PX + s, W) * N);
#pragma unroll
                for (int j = 0; j < KERNELS; j++)
                    EACH_LANE(l) across[j].of[l] += along[j][s] * value.of[l];
            }
#pragma unroll
            for (int k = 0; k < DEEP; k++)
                if (k * SY + d < R)
#pragma unroll
                    for (int j = 0; j < KERNELS; j++) {
                        float weight = down[(j * P + within(p - k, P)) * 3 * R + k * SY + d];
                        EACH_LANE(l) sums[j][k].of[l] += weight * across[j].of[l];
                    }
        }
        int done = p - (DEEP - 1);
#pragma unroll
        for (int j = 0; j < KERNELS; j++) {
            if (done >= 0) put(y + (((count_t)j * C + c) * P + done) * Q * N + i, sums[j][DEEP - 1], beta);
            push(sums[j], Samples{});
        }
    }
}

extern "C" __global__ void lanes_pool_bprop(const float *x, const float *dy, float *dx, const float *rows,
                                            const float *cols, float *parts, int C, int H, int W, int P, int Q, int N,
                                            float beta) {
    int i = (blockIdx.x * blockDim.x + threadIdx.x) * LANES, w = i / N, n = i % N, c = blockIdx.z, set = c * KERNELS;
    bool mine = i < W * N;
    auto pixel = [&](int h) { return lanes(x + ((count_t)c * H + within(h, H)) * W * N + i, mine, 0.0f); };
    auto finish = [&](int h, Samples value) {
        if (mine && dx && h >= 0 && h < H) put(dx + ((count_t)c * H + h) * W * N + i, value, beta);
    };
    Samples image[R], delta[R] = {};
    float slopes[KERNELS][4] = {};
#pragma unroll
    for (int r = 0; r < R; r++) image[r] = pixel(r - PY);
#pragma unroll 1
    for (int p = 0; p < P; p++) {
#pragma unroll
        for (int j = 0; j < KERNELS; j++) {
            Samples e[3] = {}, v[3] = {};
#pragma unroll
            for (int k = 0; k < BROAD; k++) {
                int q = (w + PX) / SX - k, s = (w + PX) % SX + k * SX;
                bool holds = mine && q >= 0 && q < Q && s < S;
                Samples value = lanes(dy + ((((count_t)j * C + c) * P + p) * Q + q) * N + n, holds, 0.0f);
#pragma unroll
                for (int m = 0; m < 3; m++) {
                    float weight = holds ? cols[(((count_t)(set + j) * Q + q) * 3 + m) * S + s] : 0;
                    EACH_LANE(l) e[m].of[l] += weight * value.of[l];
                }
            }
            const float *down = rows + ((count_t)(set + j) * P + p) * 3 * R;
#pragma unroll
            for (int r = 0; r < R; r++) {
                EACH_LANE(l) delta[r].of[l] += down[r] * e[0].of[l];
#pragma unroll
                for (int m = 0; m < 3; m++)
                    EACH_LANE(l) v[m].of[l] += down[m * R + r] * image[r].of[l];
            }
            EACH_LANE(l) {
                slopes[j][0] += e[0].of[l] * v[1].of[l], slopes[j][1] += e[1].of[l] * v[0].of[l];
                slopes[j][2] += e[0].of[l] * v[2].of[l], slopes[j][3] += e[2].of[l] * v[0].of[l];
            }
        }
#pragma unroll
        for (int d = 0; d < SY; d++) finish(p * SY - PY + d, delta[d]);
#pragma unroll
        for (int r = 0; r < R; r++) {
            delta[r] = r + SY < R ? delta[r + SY] : Samples{};
            image[r] = r + SY < R ? image[r + SY] : pixel((p + 1) * SY - PY + r);
        }
    }
#pragma unroll
    for (int r = 0; r < R; r++) finish(P * SY - PY + r, delta[r]);
    for (int j = 0; j < KERNELS; j++) leave(parts, slopes[j], set + j, C * KERNELS);
}
