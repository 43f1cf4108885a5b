// For own.py: y = 2x.
#include "minet.cuh"

extern "C" __global__ void doubled_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, C * H * W * N) put(y + i, 2 * x[i], beta);
}

extern "C" __global__ void doubled_bprop(const float *dy, float *dx, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, C * H * W * N) put(dx + i, 2 * dy[i], beta);
}
