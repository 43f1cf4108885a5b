// Stochastic pooling: y[c,p,q,n] = x at a position of the window of (p, q) drawn with probability a / total.
//
// Here a = max(x, 0) inside the image and total = sum of a. The draw: u in [0, 1) is the element's own uniform
// number (philox.cuh; element = flat index in y); the pick is the first position with a > 0 at which the running
// sum exceeds t = u * total, or the last with a > 0 if rounding leaves none. When testing there is no draw:
// y = sum of a^2 / total, the mean over all draws. A window with no a > 0 gives 0, a total that is not finite
// NaN; both leave `picked` at R*S, which is no position of the window, so that no delta goes anywhere.
//
// Order:   taps (r, s) row by row. Both sums of a draw are sequential additions in that order, and t is rounded
//          before it is compared: the cpu does the same, and picks the same positions, bit for bit.
// Threads: fprop one for each output, bprop one for each input, a warp along n, a row of blocks for each (c, p)
//          or (c, h). bprop gathers, in training as max pooling does.
// Bytes:   as max pooling; the second look at a window comes from cache.
// Source:  Zeiler & Fergus, "Stochastic pooling for regularization of deep convolutional neural networks",
//          ICLR 2013.
#include "minet.cuh"
#include "philox.cuh"
#include "window.cuh"

// max(x, 0), but NaN stays NaN.
__device__ __forceinline__ float positive(float x) { return x <= 0 ? 0.0f : x; }

extern "C" __global__ void stochastic_pool_fprop(const float *x, float *y, tap_t *picked, int C, int H, int W, int P,
                                                 int Q, int N, unsigned key0, unsigned key1, long long step,
                                                 float beta) {
    FOR_ROWS(row, (count_t)C * P) {
        int p = row % P;
        Range h = span(p, R, SY, PY, H);
        const float *plane = x + (row / P) * H * W * N;
        FOR_EACH(i, (count_t)Q * N) {
            int q = i / N, n = i % N, where = R * S;
            Range w = span(q, S, SX, PX, W);
            int corner = (p * SY - PY) * S + q * SX - PX;
            long long element = (long long)row * Q * N + i;
            float total = 0, running = 0, value = 0;
            for (int hh = h.first; hh < h.end; hh++)
                for (int ww = w.first; ww < w.end; ww++)
                    total = __fadd_rn(total, positive(plane[((count_t)hh * W + ww) * N + n]));
            bool finite = total < INFINITY;
            float t = __fmul_rn(uniform(word(key0, key1, step, element)), total);
            for (int hh = h.first; finite && hh < h.end; hh++)
                for (int ww = w.first; ww < w.end; ww++) {
                    float a = positive(plane[((count_t)hh * W + ww) * N + n]);
                    if (a > 0 && running <= t) value = a, where = hh * S + ww - corner;
                    running = __fadd_rn(running, a);
                }
            picked[row * Q * N + i] = (tap_t)where;
            put(y + row * Q * N + i, finite ? value : NAN, beta);
        }
    }
}

extern "C" __global__ void stochastic_pool_bprop(const float *dy, float *dx, const tap_t *picked, int C, int H, int W,
                                                 int P, int Q, int N, float beta) {
    gather_picked(dy, dx, picked, C, H, W, P, Q, N, beta);
}

struct Sums {
    float total, square;
};

// Of a window's positive values, and of their squares.
__device__ __forceinline__ Sums sums(const float *plane, Range h, Range w, int W, int N, int n) {
    Sums of = {0, 0};
    for (int hh = h.first; hh < h.end; hh++)
        for (int ww = w.first; ww < w.end; ww++) {
            float a = positive(plane[((count_t)hh * W + ww) * N + n]);
            of.total += a, of.square += a * a;
        }
    return of;
}

extern "C" __global__ void stochastic_pool_mean_fprop(const float *x, float *y, int C, int H, int W, int P, int Q,
                                                      int N, float beta) {
    FOR_ROWS(row, (count_t)C * P) {
        Range h = span(row % P, R, SY, PY, H);
        FOR_EACH(i, (count_t)Q * N) {
            Sums of = sums(x + (row / P) * H * W * N, h, span(i / N, S, SX, PX, W), W, N, i % N);
            put(y + row * Q * N + i, of.total > 0 ? of.square / of.total : of.total, beta);
        }
    }
}

// dx <- beta*dx + sum over windows of dy * (2a - mean) / total where a > 0.
extern "C" __global__ void stochastic_pool_mean_bprop(const float *x, const float *dy, float *dx, int C, int H, int W,
                                                      int P, int Q, int N, float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        Range p = covering(row % H, R, SY, PY, P);
        const float *plane = x + (row / H) * H * W * N, *deltas = dy + (row / H) * P * Q * N;
        FOR_EACH(i, (count_t)W * N) {
            int w = i / N, n = i % N;
            float a = x[row * W * N + i], delta = 0;
            Range q = covering(w, S, SX, PX, Q);
            for (int pp = p.first; a > 0 && pp < p.end; pp++)
                for (int qq = q.first; qq < q.end; qq++) {
                    Sums of = sums(plane, span(pp, R, SY, PY, H), span(qq, S, SX, PX, W), W, N, n);
                    delta += deltas[((count_t)pp * Q + qq) * N + n] * (a + a - of.square / of.total) / of.total;
                }
            put(dx + row * W * N + i, delta, beta);
        }
    }
}
