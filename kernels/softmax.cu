// Softmax across maps: y[c] = exp(x[c] - most) / sum of exp(x[k] - most), with most the largest x[k] of the pixel;
// dx[c] = y[c] (d[c] - sum of y[k] d[k]), d = dy - dy[top], with top the map of the largest x: what all dy have in
// common cancels before it is rounded.
//
// Order:   columns of (C, M), M = H*W*N; sums in ascending map, in double.
// Threads: one per column, a warp along M. bprop recomputes y from x.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0: three passes, the last two from cache.
// Source:  Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.
#include "minet.cuh"

// The map of a column's largest x; the first map if that is a NaN, which then shows in all of y.
__device__ __forceinline__ int largest(const float *x, int C, count_t M) {
    int top = 0;
    float most = x[0];
    for (int c = 1; c < C; c++) {
        float value = x[c * M];
        if (value > most) most = value, top = c;
    }
    return top;
}

extern "C" __global__ void softmax_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    FOR_EACH(m, M) {
        float most = x[m + largest(x + m, C, M) * M];
        double total = 0;
        for (int c = 0; c < C; c++) total += expf(x[m + c * M] - most);
        for (int c = 0; c < C; c++) put(y + m + c * M, (float)(expf(x[m + c * M] - most) / total), beta);
    }
}

extern "C" __global__ void softmax_bprop(const float *x, const float *dy, float *dx, int C, int H, int W, int N,
                                         float beta) {
    count_t M = (count_t)H * W * N;
    FOR_EACH(m, M) {
        count_t top = m + largest(x + m, C, M) * M;
        float most = x[top], common = dy[top];
        double total = 0, sum = 0; // sum: of exp(x - most) d
        for (int c = 0; c < C; c++) {
            float share = expf(x[m + c * M] - most);
            total += share;
            sum += (double)share * (dy[m + c * M] - common);
        }
        double mean = sum / total;
        for (int c = 0; c < C; c++) {
            double p = expf(x[m + c * M] - most) / total;
            put(dx + m + c * M, (float)(p * ((dy[m + c * M] - common) - mean)), beta);
        }
    }
}
