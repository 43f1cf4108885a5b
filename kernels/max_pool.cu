// Max pooling: y[c,p,q,n] = max of x[c,h,w,n] over the window of (p, q), h = p*SY - PY + r*DY.
//
// Order:   taps (r, s) row by row; argmax holds r*S + s. The first of equals wins, NaN wins over any number,
//          padding never wins.
// Threads: fprop one per LANES outputs along n, bprop one per LANES * SX inputs, a row of blocks per (c, p)
//          or (c, h). bprop gathers: each dx has one owner, which adds the deltas of the windows that chose
//          it in the order of (p, q).
// Bytes:   3x3 stride 2, per x: fprop reads 4 (what windows share comes from cache) and writes 1.25;
//          bprop reads 1.25 and writes 4.
// Source:  textbook. The argmax is local to the window, so it is small whatever the image's size.
#include "minet.cuh"
#include "window.cuh"
#include "gather_picked.cuh"

extern "C" __global__ void max_pool_fprop(const float *x, float *y, tap_t *argmax, int C, int H, int W, int P, int Q,
                                          int N, float beta) {
    int groups = N / LANES;
    FOR_ROWS(row, (count_t)C * P) {
        int top = row % P * SY - PY;
        const float *plane = x + (row / P) * H * W * N;
        FOR_EACH(i, (count_t)Q * groups) {
            int left = i / groups * SX - PX, n = i % groups * LANES;
            Samples best;
            Lanes<tap_t> where;
            EACH_LANE(l) best.of[l] = -INFINITY, where.of[l] = first_inside(top, DY) * S + first_inside(left, DX);
            FOR_TAPS(r, s) {
                Samples value = tap(plane, top + r * DY, left + s * DX, n, H, W, N, -INFINITY);
                EACH_LANE(l) {
                    bool wins = value.of[l] > best.of[l] || value.of[l] != value.of[l];
                    best.of[l] = wins ? value.of[l] : best.of[l];
                    where.of[l] = wins ? r * S + s : where.of[l];
                }
            }
            count_t at = (row * Q + i / groups) * N + n;
            *(Lanes<tap_t> *)(argmax + at) = where;
            put(y + at, best, beta);
        }
    }
}

extern "C" __global__ void max_pool_bprop(const float *dy, float *dx, const tap_t *argmax, int across, int C, int H,
                                          int W, int P, int Q, int N, float beta) {
    gather_picked(dy, dx, argmax, across, C, H, W, P, Q, N, beta);
}
