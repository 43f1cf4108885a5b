// Rung 5, march: a thread walks down a column, and what is under way stays in its registers. One pass each way.
//
//   The formulas of rungs 3 and 4. Weights outside the image are 0, so any pixel will do there: `within` the image.
//
// Order:   row by row; each row across, then into every window that holds it.
// Threads: one for each column (q, n) of y, and of x (w, n) in bprop, of a channel c. fprop holds the sums of the DEEP
//          windows that meet a row; bprop holds R rows of x and of dx, and owns its column of dx.
// Bytes:   fprop reads 4 for each x and writes 4 for each y; bprop reads 4 for each x and dy and writes 4 for each dx.
//          Neighbouring columns read the same rows, which the multiprocessor's cache still has.
// Source:  the marching windows of stencil codes: Micikevicius, "3D finite difference computation on GPUs", 2009.
#include "weights.cuh"

extern "C" __global__ void march_pool_fprop(const float *x, float *y, const float *rows, const float *cols, int H,
                                            int W, int P, int Q, int N, float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, q = i / N, n = i % N, c = blockIdx.z;
    if (i >= Q * N) return;
    const float *plane = x + (count_t)c * H * W * N + n, *down = rows + (count_t)c * P * 3 * R;
    float along[S], sums[DEEP] = {}; // sums[k] is of window p - k; a step reads the rows of window p that p - 1 lacks
#pragma unroll
    for (int s = 0; s < S; s++) along[s] = cols[((count_t)c * Q + q) * 3 * S + s];
#pragma unroll 1
    for (int p = PY / SY; p < P + DEEP - 1; p++) { // from the first rows inside the image
#pragma unroll
        for (int d = 0; d < SY; d++) {
            const float *line = plane + (count_t)within(p * SY - PY + d, H) * W * N;
            float across = 0;
#pragma unroll
            for (int s = 0; s < S; s++) across += along[s] * line[within(q * SX - PX + s, W) * N];
#pragma unroll
            for (int k = 0; k < DEEP; k++)
                if (k * SY + d < R) sums[k] += down[within(p - k, P) * 3 * R + k * SY + d] * across;
        }
        int done = p - (DEEP - 1);
        if (done >= 0) put(y + ((count_t)c * P + done) * Q * N + i, sums[DEEP - 1], beta);
        push(sums, 0.0f);
    }
}

extern "C" __global__ void march_pool_bprop(const float *x, const float *dy, float *dx, const float *rows,
                                            const float *cols, float *parts, int C, int H, int W, int P, int Q, int N,
                                            float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, w = i / N, n = i % N, c = blockIdx.z;
    bool mine = i < W * N; // the others wait for their block's sums
    auto pixel = [&](int h) { return mine ? x[((count_t)c * H + within(h, H)) * W * N + i] : 0; };
    auto finish = [&](int h, float value) {
        if (mine && dx && h >= 0 && h < H) put(dx + ((count_t)c * H + h) * W * N + i, value, beta);
    };
    float image[R], delta[R] = {}, slopes[4] = {}; // rows p*SY - PY + r of x and of dx
#pragma unroll
    for (int r = 0; r < R; r++) image[r] = pixel(r - PY);
#pragma unroll 1
    for (int p = 0; p < P; p++) {
        float e[3] = {}, v[3] = {};
#pragma unroll
        for (int k = 0; k < BROAD; k++) {
            int q = (w + PX) / SX - k, s = (w + PX) % SX + k * SX;
            bool holds = mine && q >= 0 && q < Q && s < S;
            float value = holds ? dy[(((count_t)c * P + p) * Q + q) * N + n] : 0;
#pragma unroll
            for (int j = 0; j < 3; j++)
                if (holds) e[j] += cols[(((count_t)c * Q + q) * 3 + j) * S + s] * value;
        }
        const float *down = rows + ((count_t)c * P + p) * 3 * R;
#pragma unroll
        for (int r = 0; r < R; r++) {
            delta[r] += down[r] * e[0];
#pragma unroll
            for (int j = 0; j < 3; j++) v[j] += down[j * R + r] * image[r];
        }
        slopes[0] += e[0] * v[1], slopes[1] += e[1] * v[0], slopes[2] += e[0] * v[2], slopes[3] += e[2] * v[0];
#pragma unroll
        for (int d = 0; d < SY; d++) finish(p * SY - PY + d, delta[d]); // rows that no later window holds
#pragma unroll
        for (int r = 0; r < R; r++) {
            delta[r] = r + SY < R ? delta[r + SY] : 0;
            image[r] = r + SY < R ? image[r + SY] : pixel((p + 1) * SY - PY + r);
        }
    }
#pragma unroll
    for (int r = 0; r < R; r++) finish(P * SY - PY + r, delta[r]);
    leave(parts, slopes, c, C);
}
