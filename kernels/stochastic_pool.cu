// Stochastic pooling: y[c,p,q,n] = x at a position of the window of (p, q) drawn with probability a / total.
//
// Here a = max(x, 0) inside the image and total = sum of a. The draw: u in [0, 1) is the element's own
// uniform number (philox.cuh; element = flat index in y of the whole batch); the pick is the first position with
// a > 0 at which the running sum exceeds t = u * total, or the last with a > 0 if rounding leaves none. In testing
// nothing is drawn: y = sum of a * (a / total), the mean over all draws. A window with no a > 0 gives 0, and a
// total that is not finite NaN; both set `picked` to R*S, which is not a position of the window, so no delta
// goes anywhere.
//
// Order:   taps (r, s) row by row. Both sums of a draw are sequential additions in that order, and t is
//          rounded before it is compared: the cpu does the same, and picks the same positions, bit for bit.
// Threads: as in max pooling; in testing, bprop has one per input.
// Bytes:   as in max pooling; the second pass over a window comes from cache.
// Source:  Zeiler & Fergus, "Stochastic pooling for regularization of deep convolutional neural networks",
//          ICLR 2013.
#include "minet.cuh"
#include "philox.cuh"
#include "window.cuh"
#include "gather_picked.cuh"

// max(x, 0), but NaN stays NaN.
__device__ __forceinline__ float positive(float x) { return x <= 0 ? 0.0f : x; }

extern "C" __global__ void stochastic_pool_fprop(const float *x, float *y, tap_t *picked, int C, int H, int W, int P,
                                                 int Q, int N, unsigned key0, unsigned key1, long long step,
                                                 float beta, int first, int whole) {
    int groups = N / LANES;
    FOR_ROWS(row, (count_t)C * P) {
        int top = row % P * SY - PY;
        const float *plane = x + (row / P) * H * W * N;
        FOR_EACH(i, (count_t)Q * groups) {
            int left = i / groups * SX - PX, n = i % groups * LANES;
            count_t at = (row * Q + i / groups) * N + n;
            Samples total = {}, running = {}, value = {}, t;
            Lanes<unsigned> word = drawn(key0, key1, step, in_whole(at, N, first, whole));
            Lanes<tap_t> where;
            FOR_TAPS(r, s) {
                Samples a = tap(plane, top + r * DY, left + s * DX, n, H, W, N, 0.0f);
                EACH_LANE(l) total.of[l] = __fadd_rn(total.of[l], positive(a.of[l]));
            }
            EACH_LANE(l) where.of[l] = R * S, t.of[l] = __fmul_rn(uniform(word.of[l]), total.of[l]);
            FOR_TAPS(r, s) {
                Samples x_ = tap(plane, top + r * DY, left + s * DX, n, H, W, N, 0.0f);
                EACH_LANE(l) {
                    float a = positive(x_.of[l]);
                    bool picks = a > 0 && running.of[l] <= t.of[l];
                    value.of[l] = picks ? a : value.of[l];
                    where.of[l] = picks ? r * S + s : where.of[l];
                    running.of[l] = __fadd_rn(running.of[l], a);
                }
            }
            EACH_LANE(l) if (!(total.of[l] < INFINITY)) where.of[l] = R * S, value.of[l] = NAN;
            *(Lanes<tap_t> *)(picked + at) = where;
            put(y + at, value, beta);
        }
    }
}

extern "C" __global__ void stochastic_pool_bprop(const float *dy, float *dx, const tap_t *picked, int across, int C,
                                                 int H, int W, int P, int Q, int N, float beta) {
    gather_picked(dy, dx, picked, across, C, H, W, P, Q, N, beta);
}

struct Sums {
    float total, mean;
};

// The sum of a window's positive values a, and the mean over draws, sum of a * (a / total): a * a might
// underflow. It is NaN if the total is not finite, or 0, where it is not used.
__device__ __forceinline__ Sums sums(const float *plane, Range h, Range w, int W, int N, int n) {
    Sums of = {0, 0};
    for (int hh = h.first; hh < h.end; hh += DY)
        for (int ww = w.first; ww < w.end; ww += DX) of.total += positive(plane[((count_t)hh * W + ww) * N + n]);
    for (int hh = h.first; hh < h.end; hh += DY)
        for (int ww = w.first; ww < w.end; ww += DX) {
            float a = positive(plane[((count_t)hh * W + ww) * N + n]);
            of.mean += a * (a / of.total);
        }
    if (!(of.total < INFINITY)) of.mean = NAN;
    return of;
}

extern "C" __global__ void stochastic_pool_mean_fprop(const float *x, float *y, int C, int H, int W, int P, int Q,
                                                      int N, float beta) {
    int groups = N / LANES;
    FOR_ROWS(row, (count_t)C * P) {
        int top = row % P * SY - PY;
        const float *plane = x + (row / P) * H * W * N;
        FOR_EACH(i, (count_t)Q * groups) {
            int left = i / groups * SX - PX, n = i % groups * LANES;
            Samples total = {}, mean = {};
            FOR_TAPS(r, s) {
                Samples a = tap(plane, top + r * DY, left + s * DX, n, H, W, N, 0.0f);
                EACH_LANE(l) total.of[l] += positive(a.of[l]);
            }
            FOR_TAPS(r, s) {
                Samples x_ = tap(plane, top + r * DY, left + s * DX, n, H, W, N, 0.0f);
                EACH_LANE(l) {
                    float a = positive(x_.of[l]);
                    mean.of[l] += a * (a / total.of[l]);
                }
            }
            EACH_LANE(l) mean.of[l] = !(total.of[l] < INFINITY) ? NAN : total.of[l] > 0 ? mean.of[l] : 0;
            put(y + (row * Q + i / groups) * N + n, mean, beta);
        }
    }
}

// The positions that window p meets, up to `end`, `step` apart.
__device__ __forceinline__ Range met(int p, int taps, int stride, int pad, int step, int size) {
    int start = p * stride - pad;
    return {start + first_inside(start, step) * step, min(start + (taps - 1) * step + 1, size)};
}

// dx <- beta*dx + sum over windows of dy * (2a - mean) / total where a > 0.
extern "C" __global__ void stochastic_pool_mean_bprop(const float *x, const float *dy, float *dx, int C, int H, int W,
                                                      int P, int Q, int N, float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        int h = row % H;
        Range p = covering(h, (R - 1) * DY + 1, SY, PY, P);
        const float *plane = x + (row / H) * H * W * N, *deltas = dy + (row / H) * P * Q * N;
        FOR_EACH(i, (count_t)W * N) {
            int w = i / N, n = i % N;
            float a = x[row * W * N + i], delta = 0;
            Range q = covering(w, (S - 1) * DX + 1, SX, PX, Q);
            for (int pp = p.first; a > 0 && pp < p.end; pp++)
                for (int qq = q.first; qq < q.end; qq++) {
                    if ((h + PY - pp * SY) % DY || (w + PX - qq * SX) % DX) continue; // no tap is here
                    Sums of = sums(plane, met(pp, R, SY, PY, DY, H), met(qq, S, SX, PX, DX, W), W, N, n);
                    delta += deltas[((count_t)pp * Q + qq) * N + n] * ((a + a - of.mean) / of.total);
                }
            put(dx + row * W * N + i, delta, beta);
        }
    }
}
