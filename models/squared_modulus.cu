// SquaredModulus: y[k] = x[2k]^2 + x[2k+1]^2; dx = 2 x dy, of both.
//
// Order:   flat.
// Threads: one per element of y.
// Bytes:   12 per element of y forward, 20 backward.
#include "minet.cuh"

extern "C" __global__ void squared_modulus_fprop(const float *x, float *y, int K, int H, int W, int N, float beta) {
    count_t map = (count_t)H * W * N;
    FOR_ALL(i, K * map) {
        const float *pair = x + i / map * map + i; // map k of y comes from maps 2k and 2k + 1
        put(y + i, pair[0] * pair[0] + pair[map] * pair[map], beta);
    }
}

extern "C" __global__ void squared_modulus_bprop(const float *x, const float *dy, float *dx, int K, int H, int W,
                                                 int N, float beta) {
    count_t map = (count_t)H * W * N;
    FOR_ALL(i, K * map) {
        count_t at = i / map * map + i;
        put(dx + at, 2 * x[at] * dy[i], beta);
        put(dx + at + map, 2 * x[at + map] * dy[i], beta);
    }
}
