// MyLayer: y[c,p,q,n] = sum of alpha[c,r,s] * x[c,h,w,n] over the window of (p, q), with
// h = p*SY - PY + r, and w alike.
//
// Order:   taps (r, s) row by row.
// Threads: one per output in fprop, one per input in bprop, a row of blocks per (c, p) or (c, h).
//          bprop gathers: each dx has one owner, which adds what the windows that hold it give.
//          dalpha: a block per alpha, whose threads add up in a fixed tree.
// Bytes:   each x, y, dy and dx once; what windows share comes from cache.
#include "minet.cuh"
#include "window.cuh"

extern "C" __global__ void my_layer_fprop(const float *x, float *y, const float *alpha, int C, int H,
                                          int W, int P, int Q, int N, float beta) {
    FOR_ROWS(row, (count_t)C * P) {
        const float *plane = x + row / P * H * W * N, *own = alpha + row / P * R * S;
        FOR_EACH(i, (count_t)Q * N) {
            int top = row % P * SY - PY, left = i / N * SX - PX, n = i % N;
            float total = 0;
            FOR_TAPS(r, s) {
                int h = top + r, w = left + s;
                if (h >= 0 && h < H && w >= 0 && w < W)
                    total += own[r * S + s] * plane[((count_t)h * W + w) * N + n];
            }
            put(y + row * Q * N + i, total, beta);
        }
    }
}

extern "C" __global__ void my_layer_bprop(const float *dy, float *dx, const float *alpha, int C, int H,
                                          int W, int P, int Q, int N, float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        const float *plane = dy + row / H * P * Q * N, *own = alpha + row / H * R * S;
        FOR_EACH(i, (count_t)W * N) {
            int n = i % N;
            float total = 0;
            FOR_TAPS(r, s) {
                int top = row % H + PY - r, left = i / N + PX - s, p = top / SY, q = left / SX;
                bool begins = top % SY == 0 && left % SX == 0; // a window begins there
                if (begins && top >= 0 && p < P && left >= 0 && q < Q)
                    total += own[r * S + s] * plane[((count_t)p * Q + q) * N + n];
            }
            put(dx + row * W * N + i, total, beta);
        }
    }
}

extern "C" __global__ void my_layer_dalpha(const float *x, const float *dy, float *dalpha, int C, int H,
                                           int W, int P, int Q, int N) {
    FOR_ROWS(i, (count_t)C * R * S) {
        int c = i / (R * S), r = i / S % R, s = i % S;
        const float *image = x + (count_t)c * H * W * N, *deltas = dy + (count_t)c * P * Q * N;
        float total = 0;
        FOR_EACH(j, (count_t)P * Q * N) {
            int h = j / N / Q * SY - PY + r, w = j / N % Q * SX - PX + s, n = j % N;
            bool inside = h >= 0 && h < H && w >= 0 && w < W;
            total += deltas[j] * (inside ? image[((count_t)h * W + w) * N + n] : 0);
        }
        total = block_sum(total);
        if (threadIdx.x == 0) dalpha[i] += total;
    }
}
