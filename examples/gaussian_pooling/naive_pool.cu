// Rung 1, naive: one thread for each output, the whole window, an exponential for each tap.
//
//   y[c, p, q, n] = sum over r, s of w[r, s] * x[c, h, w, n] / sum over r, s of w[r, s],
//   w[r, s] = exp(-dy^2 / (2 sy^2) - dx^2 / (2 sx^2)), h = p*SY - PY + r, w = q*SX - PX + s, and 0 outside the image
//
// Order:   taps row by row. bprop adds to dx in the order in which threads get there: its last bits vary.
// Threads: one for each output (q, n) of a row p of channel c.
// Bytes:   fprop reads 4 for each x and writes 4 for each y; bprop writes dx twice and reads it once.
// Source:  the kernel and the two ways back of NervanaSystems/neon issue 100.
#include "minet.cuh"

struct Gaussian {
    float my, mx, ay, ax; // the mean's tap, and 1 / (2 sigma^2), along both axes
    __device__ Gaussian(const float *mean, const float *log_sigma) {
        my = 0.5f * (R - 1) + mean[0], ay = 0.5f * expf(-2 * log_sigma[0]);
        mx = 0.5f * (S - 1) + mean[1], ax = 0.5f * expf(-2 * log_sigma[1]);
    }
    __device__ float at(int r, int s) const { return expf(-ay * (r - my) * (r - my) - ax * (s - mx) * (s - mx)); }
};

extern "C" __global__ void naive_pool_fprop(const float *x, float *y, const float *mean, const float *log_sigma,
                                            int H, int W, int P, int Q, int N, float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, q = i / N, n = i % N, p = blockIdx.y, c = blockIdx.z;
    if (i >= Q * N) return;
    Gaussian gaussian(mean + 2 * c, log_sigma + 2 * c);
    float sum = 0, total = 0;
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int s = 0; s < S; s++) {
            int h = p * SY - PY + r, w = q * SX - PX + s;
            float weight = gaussian.at(r, s);
            total += weight;
            if (h >= 0 && h < H && w >= 0 && w < W) sum += weight * x[(((count_t)c * H + h) * W + w) * N + n];
        }
    put(y + (((count_t)c * P + p) * Q + q) * N + n, sum / total, beta);
}

// dx <- beta * dx, before other threads add to it.
extern "C" __global__ void naive_pool_keep(float *dx, int H, int W, int N, float beta) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < W * N) put(dx + ((count_t)blockIdx.z * H + blockIdx.y) * W * N + i, 0, beta);
}

extern "C" __global__ void naive_pool_scatter(const float *dy, float *dx, const float *mean, const float *log_sigma,
                                              int H, int W, int P, int Q, int N) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, q = i / N, n = i % N, p = blockIdx.y, c = blockIdx.z;
    if (i >= Q * N) return;
    Gaussian gaussian(mean + 2 * c, log_sigma + 2 * c);
    float total = 0;
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int s = 0; s < S; s++) total += gaussian.at(r, s);
    float delta = dy[(((count_t)c * P + p) * Q + q) * N + n] / total;
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int s = 0; s < S; s++) {
            int h = p * SY - PY + r, w = q * SX - PX + s;
            if (h >= 0 && h < H && w >= 0 && w < W)
                atomicAdd(dx + (((count_t)c * H + h) * W + w) * N + n, gaussian.at(r, s) * delta);
        }
}
