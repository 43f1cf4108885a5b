// ReLU: y = max(x, 0); dx = dy where x > 0, else 0. NaN stays NaN, and its delta passes through.
//
// Order:   flat; each element by itself.   Threads: one per LANES elements.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0.
// Source:  Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
#include "minet.cuh"

extern "C" __global__ void relu_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, (count_t)C * H * W * N / LANES) {
        Samples value = ((const Samples *)x)[i];
        EACH_LANE(l) value.of[l] = value.of[l] <= 0 ? 0.0f : value.of[l];
        put(y + i * LANES, value, beta);
    }
}

extern "C" __global__ void relu_bprop(const float *x, const float *dy, float *dx, int C, int H, int W, int N,
                                      float beta) {
    FOR_ALL(i, (count_t)C * H * W * N / LANES) {
        Samples value = ((const Samples *)x)[i], delta = ((const Samples *)dy)[i];
        EACH_LANE(l) delta.of[l] = value.of[l] <= 0 ? 0.0f : delta.of[l];
        put(dx + i * LANES, delta, beta);
    }
}
