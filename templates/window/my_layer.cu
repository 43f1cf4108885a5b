// MyLayer: y[c,p,q,n] = sum of weight(r,s) * x[c,h,w,n] over the window of (p, q), with
// h = p*SY - PY + r, and w alike.
//
// Order:   taps (r, s) row by row.
// Threads: one per output in fprop, one per input in bprop, a row of blocks per (c, p) or (c, h).
//          bprop gathers: each dx has one owner, which adds what the windows that hold it give.
// Bytes:   each x, y, dy and dx once; what windows share comes from cache.
#include "minet.cuh"
#include "window.cuh"

// A pyramid's height at tap i of an axis: 1 at both ends.
constexpr __device__ int height(int i, int taps) { return i < taps - 1 - i ? i + 1 : taps - i; }

__device__ __forceinline__ float weight(int r, int s) {
    constexpr int down = (R + 1) / 2 * (R / 2 + 1), along = (S + 1) / 2 * (S / 2 + 1); // their sums
    return (float)(height(r, R) * height(s, S)) / (down * along);
}

extern "C" __global__ void my_layer_fprop(const float *x, float *y, int C, int H, int W, int P, int Q,
                                          int N, float beta) {
    FOR_ROWS(row, (count_t)C * P) {
        const float *plane = x + row / P * H * W * N;
        FOR_EACH(i, (count_t)Q * N) {
            int top = row % P * SY - PY, left = i / N * SX - PX, n = i % N;
            float total = 0;
            FOR_TAPS(r, s) {
                int h = top + r, w = left + s;
                if (h >= 0 && h < H && w >= 0 && w < W)
                    total += weight(r, s) * plane[((count_t)h * W + w) * N + n];
            }
            put(y + row * Q * N + i, total, beta);
        }
    }
}

extern "C" __global__ void my_layer_bprop(const float *dy, float *dx, int C, int H, int W, int P,
                                          int Q, int N, float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        const float *plane = dy + row / H * P * Q * N;
        FOR_EACH(i, (count_t)W * N) {
            int n = i % N;
            float total = 0;
            FOR_TAPS(r, s) {
                int top = row % H + PY - r, left = i / N + PX - s, p = top / SY, q = left / SX;
                bool begins = top % SY == 0 && left % SX == 0; // a window begins there
                if (begins && top >= 0 && p < P && left >= 0 && q < Q)
                    total += weight(r, s) * plane[((count_t)p * Q + q) * N + n];
            }
            put(dx + row * W * N + i, total, beta);
        }
    }
}
