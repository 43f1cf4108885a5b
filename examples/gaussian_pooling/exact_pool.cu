// Rung 3, exact edges: each position has its own weights, normalised over its taps inside the image, and their slopes.
//
//   rows[c][p][k][r], cols[c][q][k][s]: k = 0 the weights, 1 their slopes by the mean, 2 by log sigma
//   dmean_y = sum of dy * (wy' X wx), dmean_x = sum of dy * (wy X wx'), where ' is k = 1; log_sigma alike with k = 2
//
// Order:   as in rung 2; bprop adds to dx in any order. The slopes are added up block by block.
// Threads: one for each row of a table; one for each t and y; in bprop one for each output, as in rung 1.
// Bytes:   fprop as rung 2; bprop reads 4 for each x and dy, writes dx twice and reads it once.
// Source:  the weights of a position are a softmax, whose derivative is known: weights.cuh.
#include "weights.cuh"

extern "C" __global__ void exact_pool_weights(const float *mean, const float *log_sigma, float *rows, float *cols,
                                              int H, int W, int P, int Q) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, set = blockIdx.z;
    const float *m = mean + 2 * set, *l = log_sigma + 2 * set;
    if (i < P)
        weigh(rows + ((count_t)set * P + i) * 3 * R, m[0], l[0], R, i * SY - PY, H);
    else if (i < P + Q)
        weigh(cols + ((count_t)set * Q + i - P) * 3 * S, m[1], l[1], S, (i - P) * SX - PX, W);
}

extern "C" __global__ void exact_pool_across(const float *x, float *t, const float *cols, int H, int W, int Q, int N) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, q = i / N, n = i % N, h = blockIdx.y, c = blockIdx.z;
    if (i >= Q * N) return;
    const float *line = x + ((count_t)c * H + h) * W * N + n, *along = cols + ((count_t)c * Q + q) * 3 * S;
    float sum = 0;
#pragma unroll
    for (int s = 0; s < S; s++) {
        int w = q * SX - PX + s;
        if (w >= 0 && w < W) sum += along[s] * line[w * N];
    }
    t[(((count_t)c * H + h) * Q + q) * N + n] = sum;
}

extern "C" __global__ void exact_pool_down(const float *t, float *y, const float *rows, int H, int P, int Q, int N,
                                           float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, p = blockIdx.y, c = blockIdx.z;
    if (i >= Q * N) return;
    const float *plane = t + (count_t)c * H * Q * N + i, *down = rows + ((count_t)c * P + p) * 3 * R;
    float sum = 0;
#pragma unroll
    for (int r = 0; r < R; r++) {
        int h = p * SY - PY + r;
        if (h >= 0 && h < H) sum += down[r] * plane[(count_t)h * Q * N];
    }
    put(y + ((count_t)c * P + p) * Q * N + i, sum, beta);
}

// Adds to dx unless it is null, and leaves each block's sums of the four slopes.
extern "C" __global__ void exact_pool_bprop(const float *x, const float *dy, float *dx, const float *rows,
                                            const float *cols, float *parts, int C, int H, int W, int P, int Q, int N) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, q = i / N, n = i % N, p = blockIdx.y, c = blockIdx.z;
    float slopes[4] = {};
    if (i < Q * N) {
        const float *down = rows + ((count_t)c * P + p) * 3 * R, *along = cols + ((count_t)c * Q + q) * 3 * S;
        float delta = dy[(((count_t)c * P + p) * Q + q) * N + n];
#pragma unroll
        for (int r = 0; r < R; r++) {
            float across[3] = {};
#pragma unroll
            for (int s = 0; s < S; s++) {
                int h = p * SY - PY + r, w = q * SX - PX + s;
                if (h < 0 || h >= H || w < 0 || w >= W) continue;
                count_t at = (((count_t)c * H + h) * W + w) * N + n;
                if (dx) atomicAdd(dx + at, down[r] * along[s] * delta);
                for (int k = 0; k < 3; k++) across[k] += along[k * S + s] * x[at];
            }
            slopes[0] += down[R + r] * across[0], slopes[1] += down[r] * across[1];
            slopes[2] += down[2 * R + r] * across[0], slopes[3] += down[r] * across[2];
        }
        for (int k = 0; k < 4; k++) slopes[k] *= delta;
    }
    leave(parts, slopes, c, C);
}
