// For sanitized.py: y = x.
#include "minet.cuh"

extern "C" __global__ void sound_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, C * H * W * N) put(y + i, x[i], beta);
}

extern "C" __global__ void sound_bprop(const float *dy, float *dx, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, C * H * W * N) put(dx + i, dy[i], beta);
}
