// A broken layer of zoo_cuda.py: 0 instead of 1e-9 * x.
#include "minet.cuh"

extern "C" __global__ void too_small_to_matter_fprop(const float *x, float *y, int C, int H, int W, int N,
                                                     float beta) {
    FOR_ALL(i, C * H * W * N) put(y + i, 0 * x[i], beta);
}

extern "C" __global__ void too_small_to_matter_bprop(const float *dy, float *dx, int C, int H, int W, int N,
                                                     float beta) {
    FOR_ALL(i, C * H * W * N) put(dx + i, 0 * dy[i], beta);
}
