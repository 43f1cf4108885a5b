// A broken layer of zoo_cuda.py: the largest of each column, with its row kept as 1 .. H.
#include "minet.cuh"

extern "C" __global__ void rows_from_one_fprop(const float *x, float *y, int *row, int K, int P, int Q, int H,
                                               int N, float beta) {
    FOR_ALL(i, K * P * Q * N) {
        int c = i / (Q * N), at = i % (Q * N), best = 0;
        for (int h = 1; h < H; h++)
            if (x[(c * H + h) * Q * N + at] > x[(c * H + best) * Q * N + at]) best = h;
        row[i] = best + 1;
        put(y + i, x[(c * H + best) * Q * N + at], beta);
    }
}

extern "C" __global__ void rows_from_one_bprop(const float *dy, float *dx, const int *row, int C, int H, int W,
                                               int N, float beta) {
    FOR_ALL(i, C * H * W * N) {
        int c = i / (H * W * N), h = i / (W * N) % H, j = c * W * N + i % (W * N);
        put(dx + i, row[j] == h + 1 ? dy[j] : 0, beta);
    }
}
