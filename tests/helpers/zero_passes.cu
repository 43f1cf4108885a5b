// A broken layer of zoo_cuda.py: the delta of x = 0 passes through.
#include "minet.cuh"

extern "C" __global__ void zero_passes_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, C * H * W * N) put(y + i, x[i] <= 0 ? 0 : x[i], beta);
}

extern "C" __global__ void zero_passes_bprop(const float *x, const float *dy, float *dx, int C, int H, int W, int N,
                                             float beta) {
    FOR_ALL(i, C * H * W * N) put(dx + i, x[i] >= 0 ? dy[i] : 0, beta);
}
