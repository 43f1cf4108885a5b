// A broken layer of zoo_cuda.py: numbers below the smallest normal one count as 0.
#include "minet.cuh"

extern "C" __global__ void denormal_lost_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, C * H * W * N) put(y + i, x[i] <= 0 ? 0 : x[i], beta);
}

extern "C" __global__ void denormal_lost_bprop(const float *x, const float *dy, float *dx, int C, int H, int W, int N,
                                               float beta) {
    FOR_ALL(i, C * H * W * N) put(dx + i, x[i] > 1.17549435e-38f ? dy[i] : 0, beta);
}
