// SmoothMax: y = log(mean(exp(a*x))) / a over each map; dx = dy times the softmax of a*x.
//
// Order:   x[c] is (M, N), M = H*W pixels of N samples.
// Threads: one per (c, n); da[c] has one owner.
#include "minet.cuh"

struct Sums {
    float largest, total, away; // of a map: its maximum, the sum of e = exp(a*(x - largest)), of e*(x - largest)
};
__device__ Sums sums(const float *x, int M, int N, float a) {
    Sums of = {x[0], 0, 0};
    for (int m = 1; m < M; m++) of.largest = fmaxf(of.largest, x[m * N]);
    for (int m = 0; m < M; m++) {
        float apart = x[m * N] - of.largest, e = expf(a * apart);
        of.total += e;
        of.away += e * apart;
    }
    return of;
}

extern "C" __global__ void smooth_max_fprop(const float *x, float *y, const float *a, int C, int H, int W, int N,
                                            float beta) {
    int M = H * W;
    FOR_ROWS(c, C) {
        FOR_EACH(n, N) {
            Sums of = sums(x + c * M * N + n, M, N, a[c]);
            put(y + c * N + n, of.largest + logf(of.total / M) / a[c], beta);
        }
    }
}

extern "C" __global__ void smooth_max_bprop(const float *x, const float *dy, float *dx, const float *a, float *da,
                                            int C, int H, int W, int N, float beta) {
    int M = H * W;
    FOR_ROWS(c, C) {
        FOR_EACH(n, N) {
            int at = c * M * N + n;
            Sums of = sums(x + at, M, N, a[c]);
            for (int m = 0; dx && m < M; m++)
                put(dx + at + m * N, dy[c * N + n] * expf(a[c] * (x[at + m * N] - of.largest)) / of.total, beta);
        }
        if (blockIdx.x == 0 && threadIdx.x == 0)
            for (int n = 0; n < N; n++) {
                Sums of = sums(x + c * M * N + n, M, N, a[c]);
                da[c] += dy[c * N + n] * (of.away / of.total - logf(of.total / M) / a[c]) / a[c];
            }
    }
}
