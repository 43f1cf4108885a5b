// Log: y = log(max(x, 0) + FLOOR); dx = dy / (x + FLOOR) where x > 0.
//
// Order:   flat.
// Threads: one per element.
// Bytes:   8 per element forward, 12 backward.
#include "minet.cuh"

extern "C" __global__ void log_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, (count_t)C * H * W * N) {
        float value = x[i] < 0 ? 0 : x[i]; // NaN stays
        put(y + i, logf(value + (float)FLOOR), beta);
    }
}

extern "C" __global__ void log_bprop(const float *x, const float *dy, float *dx, int C, int H, int W, int N,
                                     float beta) {
    FOR_ALL(i, (count_t)C * H * W * N) {
        float value = x[i] < 0 ? 0 : x[i];
        put(dx + i, (x[i] > 0) * dy[i] / (value + (float)FLOOR), beta);
    }
}
