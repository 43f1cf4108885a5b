// Average pooling: y[c,p,q,n] = mean of x[c,h,w,n] over the part of the window of (p, q) inside the image.
//
// Order:   taps (r, s) row by row; in bprop windows (p, q) row by row.
// Threads: fprop one for each output, bprop one for each input, a warp along n, a row of blocks for each (c, p)
//          or (c, h). bprop gathers: each dx has one owner.
// Bytes:   3x3 stride 2, for each x: 4 read and 1 written in fprop, the reverse in bprop; what windows share
//          comes from cache.
// Source:  textbook; padding is left out of the mean (count_include_pad=False elsewhere).
#include "minet.cuh"
#include "window.cuh"

extern "C" __global__ void avg_pool_fprop(const float *x, float *y, int C, int H, int W, int P, int Q, int N,
                                          float beta) {
    FOR_ROWS(row, (count_t)C * P) {
        Range h = span(row % P, R, SY, PY, H);
        const float *plane = x + (row / P) * H * W * N;
        FOR_EACH(i, (count_t)Q * N) {
            int q = i / N, n = i % N;
            Range w = span(q, S, SX, PX, W);
            float total = 0;
            for (int hh = h.first; hh < h.end; hh++)
                for (int ww = w.first; ww < w.end; ww++) total += plane[((count_t)hh * W + ww) * N + n];
            put(y + row * Q * N + i, total / (float)((h.end - h.first) * (w.end - w.first)), beta);
        }
    }
}

extern "C" __global__ void avg_pool_bprop(const float *dy, float *dx, int C, int H, int W, int P, int Q, int N,
                                          float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        Range p = covering(row % H, R, SY, PY, P);
        const float *plane = dy + (row / H) * P * Q * N;
        FOR_EACH(i, (count_t)W * N) {
            int w = i / N, n = i % N;
            Range q = covering(w, S, SX, PX, Q);
            float total = 0;
            for (int pp = p.first; pp < p.end; pp++) {
                Range h = span(pp, R, SY, PY, H);
                for (int qq = q.first; qq < q.end; qq++) {
                    Range v = span(qq, S, SX, PX, W);
                    total += plane[((count_t)pp * Q + qq) * N + n] / (float)((h.end - h.first) * (v.end - v.first));
                }
            }
            put(dx + row * W * N + i, total, beta);
        }
    }
}
