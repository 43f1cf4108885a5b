// A broken layer of zoo_cuda.py: map c times c + 1, with c from an element's turn instead of its index.
#include "minet.cuh"

extern "C" __global__ void first_come_fprop(const float *x, float *y, unsigned *turn, int C, int H, int W, int N,
                                            float beta) {
    FOR_ALL(i, C * H * W * N) {
        unsigned mine = atomicInc(turn, C * H * W * N - 1); // 0 again after the last
        put(y + i, x[i] * (mine / (H * W * N) + 1), beta);
    }
}

extern "C" __global__ void first_come_bprop(const float *dy, float *dx, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, C * H * W * N) put(dx + i, dy[i] * (i / (H * W * N) + 1), beta);
}
