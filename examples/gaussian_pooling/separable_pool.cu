// Rung 2, separable: the weights are a column times a row, so pool across, then down; R + S taps, not R * S.
//
//   t[c, h, q, n] = sum over s of wx[s] * x[c, h, w, n],  y[c, p, q, n] = sum over r of wy[r] * t[c, h, q, n]
//
// Order:   taps in ascending order, across first.
// Threads: one for each weight; one for each t; one for each y.
// Bytes:   reads 4 for each x and writes 4 for each t; reads 4 for each t and writes 4 for each y.
// Source:  exp(a + b) = exp(a) * exp(b).
#include "minet.cuh"

// weights[c] <- wy, then wx, each normalised over the whole window.
extern "C" __global__ void separable_pool_weights(const float *mean, const float *log_sigma, float *weights) {
    int i = threadIdx.x, axis = i >= R, taps = axis ? S : R, c = blockIdx.z;
    if (i >= R + S) return;
    float a = 0.5f * expf(-2 * log_sigma[2 * c + axis]), middle = 0.5f * (taps - 1) + mean[2 * c + axis], total = 0;
    auto share = [&](int tap) { return expf(-a * (tap - middle) * (tap - middle)); };
    for (int tap = 0; tap < taps; tap++) total += share(tap);
    weights[c * (R + S) + i] = share(i - axis * R) / total;
}

extern "C" __global__ void separable_pool_across(const float *x, float *t, const float *weights, int H, int W, int Q,
                                                 int N) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, q = i / N, n = i % N, h = blockIdx.y, c = blockIdx.z;
    if (i >= Q * N) return;
    const float *line = x + ((count_t)c * H + h) * W * N + n, *along = weights + c * (R + S) + R;
    float sum = 0;
#pragma unroll
    for (int s = 0; s < S; s++) {
        int w = q * SX - PX + s;
        if (w >= 0 && w < W) sum += along[s] * line[w * N];
    }
    t[(((count_t)c * H + h) * Q + q) * N + n] = sum;
}

extern "C" __global__ void separable_pool_down(const float *t, float *y, const float *weights, int H, int P, int Q,
                                               int N, float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, p = blockIdx.y, c = blockIdx.z;
    if (i >= Q * N) return;
    const float *plane = t + (count_t)c * H * Q * N + i, *down = weights + c * (R + S);
    float sum = 0;
#pragma unroll
    for (int r = 0; r < R; r++) {
        int h = p * SY - PY + r;
        if (h >= 0 && h < H) sum += down[r] * plane[(count_t)h * Q * N];
    }
    put(y + ((count_t)c * P + p) * Q * N + i, sum, beta);
}
