// Rung 4, gather: a thread for each dx looks up which outputs hold it. No atomics, so the same bits each time.
//
//   e[k][c, p, w, n] = sum over q of cols[c][q][k][s] * dy[c, p, q, n],  s = w + PX - q*SX
//   dx[c, h, w, n] = sum over p of rows[c][p][0][r] * e[0][c, p, w, n],  r = h + PY - p*SY
//   dmean_y = sum of e[0] * (wy' X), dmean_x = sum of e[1] * (wy X); log_sigma alike with k = 2
//
// Order:   windows from the last that holds a position to the first; slopes block by block.
// Threads: one for each e; one for each dx; one for each e again, for the slopes.
// Bytes:   reads 4 for each dy and writes 12 for each e; reads 4 for each e and writes 4 for each dx; reads 4 for
//          each x and 12 for each e.
// Source:  dX = Ay^T dY Ax. A product with a transposed matrix gathers where the product itself would scatter.
#include "weights.cuh"

extern "C" __global__ void gather_pool_across(const float *dy, float *e, const float *cols, int C, int W, int P, int Q,
                                              int N) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, w = i / N, n = i % N, p = blockIdx.y, c = blockIdx.z;
    if (i >= W * N) return;
    float sums[3] = {};
#pragma unroll
    for (int k = 0; k < BROAD; k++) { // the outputs that may hold column w, at every SX-th tap
        int q = (w + PX) / SX - k, s = (w + PX) % SX + k * SX;
        if (q < 0 || q >= Q || s >= S) continue;
        float delta = dy[(((count_t)c * P + p) * Q + q) * N + n];
        for (int j = 0; j < 3; j++) sums[j] += cols[(((count_t)c * Q + q) * 3 + j) * S + s] * delta;
    }
    for (int j = 0; j < 3; j++) e[(((count_t)j * C + c) * P + p) * W * N + i] = sums[j];
}

extern "C" __global__ void gather_pool_down(const float *e, float *dx, const float *rows, int H, int W, int P, int N,
                                            float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, h = blockIdx.y, c = blockIdx.z;
    if (i >= W * N) return;
    float sum = 0;
#pragma unroll
    for (int k = 0; k < DEEP; k++) {
        int p = (h + PY) / SY - k, r = (h + PY) % SY + k * SY;
        if (p < 0 || p >= P || r >= R) continue;
        sum += rows[((count_t)c * P + p) * 3 * R + r] * e[((count_t)c * P + p) * W * N + i];
    }
    put(dx + ((count_t)c * H + h) * W * N + i, sum, beta);
}

extern "C" __global__ void gather_pool_slopes(const float *x, const float *e, const float *rows, float *parts, int C,
                                              int H, int W, int P, int N) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, p = blockIdx.y, c = blockIdx.z;
    float slopes[4] = {};
    if (i < W * N) {
        const float *down = rows + ((count_t)c * P + p) * 3 * R;
        float v[3] = {}, own[3];
#pragma unroll
        for (int r = 0; r < R; r++) {
            int h = p * SY - PY + r;
            if (h < 0 || h >= H) continue;
            float value = x[((count_t)c * H + h) * W * N + i];
            for (int k = 0; k < 3; k++) v[k] += down[k * R + r] * value;
        }
        for (int k = 0; k < 3; k++) own[k] = e[(((count_t)k * C + c) * P + p) * W * N + i];
        slopes[0] = own[0] * v[1], slopes[1] = own[1] * v[0], slopes[2] = own[0] * v[2], slopes[3] = own[2] * v[0];
    }
    leave(parts, slopes, c, C);
}
