// Rung 6, several kernels in one pass: x is read once for all of them, and each writes its own block of y.
//
//   y[j*C + c] is kernel j on channel c. dx is the sum over j, formed in the same registers.
//
// Order:   as rung 5; where kernels meet, in dx, they are added in ascending order.
// Threads: as rung 5, with DEEP * KERNELS sums in fprop. In bprop all kernels use the same rows of x and of dx.
// Bytes:   as rung 5, whatever KERNELS: 4 for each x, y and dy read or written, 4 for each dx.
// Source:  the second choice of NervanaSystems/neon issue 100, with a loop in the thread in place of a block index.
#include "weights.cuh"

extern "C" __global__ void many_pool_fprop(const float *x, float *y, const float *rows, const float *cols, int C, int H,
                                           int W, int P, int Q, int N, float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, q = i / N, n = i % N, c = blockIdx.z, set = c * KERNELS;
    if (i >= Q * N) return;
    const float *plane = x + (count_t)c * H * W * N + n, *down = rows + (count_t)set * P * 3 * R;
    float along[KERNELS][S], sums[KERNELS][DEEP] = {};
#pragma unroll
    for (int j = 0; j < KERNELS; j++)
#pragma unroll
        for (int s = 0; s < S; s++) along[j][s] = cols[((count_t)(set + j) * Q + q) * 3 * S + s];
#pragma unroll 1
    for (int p = PY / SY; p < P + DEEP - 1; p++) { // from the first rows inside the image
#pragma unroll
        for (int d = 0; d < SY; d++) {
            const float *line = plane + (count_t)within(p * SY - PY + d, H) * W * N;
            float across[KERNELS] = {};
#pragma unroll
            for (int s = 0; s < S; s++) {
                float value = line[within(q * SX - PX + s, W) * N];
#pragma unroll
                for (int j = 0; j < KERNELS; j++) across[j] += along[j][s] * value;
            }
#pragma unroll
            for (int k = 0; k < DEEP; k++)
                if (k * SY + d < R)
#pragma unroll
                    for (int j = 0; j < KERNELS; j++)
                        sums[j][k] += down[(j * P + within(p - k, P)) * 3 * R + k * SY + d] * across[j];
        }
        int done = p - (DEEP - 1);
#pragma unroll
        for (int j = 0; j < KERNELS; j++) {
            if (done >= 0) put(y + (((count_t)j * C + c) * P + done) * Q * N + i, sums[j][DEEP - 1], beta);
            push(sums[j], 0.0f);
        }
    }
}

extern "C" __global__ void many_pool_bprop(const float *x, const float *dy, float *dx, const float *rows,
                                           const float *cols, float *parts, int C, int H, int W, int P, int Q, int N,
                                           float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, w = i / N, n = i % N, c = blockIdx.z, set = c * KERNELS;
    bool mine = i < W * N;
    auto pixel = [&](int h) { return mine ? x[((count_t)c * H + within(h, H)) * W * N + i] : 0; };
    auto finish = [&](int h, float value) {
        if (mine && dx && h >= 0 && h < H) put(dx + ((count_t)c * H + h) * W * N + i, value, beta);
    };
    float image[R], delta[R] = {}, slopes[KERNELS][4] = {};
#pragma unroll
    for (int r = 0; r < R; r++) image[r] = pixel(r - PY);
#pragma unroll 1
    for (int p = 0; p < P; p++) {
#pragma unroll
        for (int j = 0; j < KERNELS; j++) {
            float e[3] = {}, v[3] = {};
#pragma unroll
            for (int k = 0; k < BROAD; k++) {
                int q = (w + PX) / SX - k, s = (w + PX) % SX + k * SX;
                bool holds = mine && q >= 0 && q < Q && s < S;
                float value = holds ? dy[((((count_t)j * C + c) * P + p) * Q + q) * N + n] : 0;
#pragma unroll
                for (int l = 0; l < 3; l++)
                    if (holds) e[l] += cols[(((count_t)(set + j) * Q + q) * 3 + l) * S + s] * value;
            }
            const float *down = rows + ((count_t)(set + j) * P + p) * 3 * R;
#pragma unroll
            for (int r = 0; r < R; r++) {
                delta[r] += down[r] * e[0];
#pragma unroll
                for (int l = 0; l < 3; l++) v[l] += down[l * R + r] * image[r];
            }
            slopes[j][0] += e[0] * v[1], slopes[j][1] += e[1] * v[0];
            slopes[j][2] += e[0] * v[2], slopes[j][3] += e[2] * v[0];
        }
#pragma unroll
        for (int d = 0; d < SY; d++) finish(p * SY - PY + d, delta[d]);
#pragma unroll
        for (int r = 0; r < R; r++) {
            delta[r] = r + SY < R ? delta[r + SY] : 0;
            image[r] = r + SY < R ? image[r + SY] : pixel((p + 1) * SY - PY + r);
        }
    }
#pragma unroll
    for (int r = 0; r < R; r++) finish(P * SY - PY + r, delta[r]);
    for (int j = 0; j < KERNELS; j++) leave(parts, slopes[j], set + j, C * KERNELS);
}
