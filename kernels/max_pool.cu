// Max pooling: y[c,p,q,n] = max of x[c,h,w,n] over the window of (p, q), h = p*SY - PY + r, w alike.
//
// Order:   taps (r, s) row by row; argmax holds r*S + s. The first of equals wins, NaN wins over any number,
//          padding never wins.
// Threads: fprop one for each output, bprop one for each input, a warp along n, a row of blocks for each (c, p)
//          or (c, h). bprop gathers: each dx has one owner, who adds the deltas of the windows that chose it in
//          the order of (p, q).
// Bytes:   3x3 stride 2, for each x: fprop reads 4 (what windows share comes from cache) and writes 1.25;
//          bprop reads 1.25 and writes 4.
// Source:  textbook. The argmax is local to the window, so that it is small whatever the image's size.
#include "minet.cuh"
#include "window.cuh"

extern "C" __global__ void max_pool_fprop(const float *x, float *y, tap_t *argmax, int C, int H, int W, int P, int Q,
                                          int N, float beta) {
    FOR_ROWS(row, (count_t)C * P) {
        int p = row % P;
        Range h = span(p, R, SY, PY, H);
        const float *plane = x + (row / P) * H * W * N;
        FOR_EACH(i, (count_t)Q * N) {
            int q = i / N, n = i % N, where = 0;
            Range w = span(q, S, SX, PX, W);
            int corner = (p * SY - PY) * S + q * SX - PX;
            float best = 0;
            bool found = false;
            for (int hh = h.first; hh < h.end; hh++)
                for (int ww = w.first; ww < w.end; ww++) {
                    float value = plane[((count_t)hh * W + ww) * N + n];
                    if (!found || value > best || value != value) best = value, where = hh * S + ww - corner;
                    found = true;
                }
            argmax[row * Q * N + i] = (tap_t)where;
            put(y + row * Q * N + i, best, beta);
        }
    }
}

extern "C" __global__ void max_pool_bprop(const float *dy, float *dx, const tap_t *argmax, int C, int H, int W, int P,
                                          int Q, int N, float beta) {
    gather_picked(dy, dx, argmax, C, H, W, P, Q, N, beta);
}
