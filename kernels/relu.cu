// ReLU: y = max(x, 0); dx = dy where x > 0, else 0. NaN stays NaN, and its delta passes through.
//
// Order:   flat; each element by itself.   Threads: one per element.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0.
// Source:  Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
#include "minet.cuh"

extern "C" __global__ void relu_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, (count_t)C * H * W * N) put(y + i, x[i] <= 0 ? 0.0f : x[i], beta);
}

extern "C" __global__ void relu_bprop(const float *x, const float *dy, float *dx, int C, int H, int W, int N,
                                      float beta) {
    FOR_ALL(i, (count_t)C * H * W * N) put(dx + i, x[i] <= 0 ? 0.0f : dy[i], beta);
}
