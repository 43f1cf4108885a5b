// A kernel with a fault, for tests/backends/test_cuda.py: it writes far beyond the device's memory.
#include "minet.cuh"

extern "C" __global__ void astray_fprop(const float *x, float *y, int N, float beta) {
    FOR_EACH(i, N) put(y + i + (1ll << 40), x[i], beta);
}

extern "C" __global__ void astray_bprop(const float *dy, float *dx, int N, float beta) {
    FOR_EACH(i, N) put(dx + i, dy[i], beta);
}
