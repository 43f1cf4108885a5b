// Average pooling: y[c,p,q,n] = mean of x[c,h,w,n] over the part of the window of (p, q) inside the image.
//
// Order:   rows of the window from left to right, then from the top down; in bprop windows (p, q) alike.
// Threads: one per LANES neighbours along n of a column of outputs (fprop) or inputs (bprop). It marches down
//          a band of rows; each (c, band) has a row of blocks. What a row adds to all windows that hold it is
//          summed once, and kept in registers meanwhile: S*SY + R additions per output instead of S*R. A mean of
//          thousands of pixels is summed in float64: float32 would lose digits.
// Bytes:   3x3 stride 2, per x: 4 read and 1 written in fprop, the reverse in bprop; what columns share comes
//          from cache.
// Limits:  any window; up to 16 rows of windows at one place stay in registers.
// Source:  textbook; padding is left out of the mean, unless COUNT_PAD.
#include "minet.cuh"
#include "window.cuh"

constexpr int ROWS_AT_ONCE = SY <= 4 ? SY : 1;
#if R * S > 1024
typedef double sum_t;
#else
typedef float sum_t;
#endif
typedef Lanes<sum_t> Sums;

// What the mean of window p divides by along an axis: pixels, and of the padding what counts.
__device__ __forceinline__ int counted(int p, int taps, int stride, int pad, int after, int size) {
    Range inside = span(p, taps, stride, pad, size);
    if (!COUNT_PAD) return inside.end - inside.first;
    int start = p * stride - pad;
    return min(start + taps, size + after) - start;
}

extern "C" __global__ void avg_pool_fprop(const float *x, float *y, int bands, int C, int H, int W, int P, int Q, int N,
                                          float beta) {
    int groups = N / LANES;
    FOR_ROWS(row, (count_t)C * bands) {
        int c = row / bands, begin = part(row % bands, bands, P), end = part(row % bands + 1, bands, P);
        const float *plane = x + (count_t)c * H * W * N;
        FOR_EACH(i, (count_t)Q * groups) {
            int q = i / groups, n = i % groups * LANES;
            Range w = span(q, S, SX, PX, W);
            int left = q * SX - PX;
            unsigned first = 4u * (left * N + n);
            auto march = [&](bool inside) { // whether the columns of the windows are: then no load asks
                Sums sums[DEEP] = {}; // for the windows p - k, where p begins here
                // From the first p with rows inside the image.
                for (int p = max(begin, (PY + SY - min(R, SY)) / SY); p < end + DEEP - 1; p++) {
#pragma unroll ROWS_AT_ONCE
                    for (int d = 0; d < min(R, SY); d++) {
                        Sums across = {};
                        int h = p * SY - PY + d;
                        const float *line = plane + (count_t)h * W * N;
                        if (DEEP > 2) // of the next rows, the columns that no neighbour asks for
#pragma unroll
                            for (int i = 0; i < min(SX, 4); i++)
                                fetch(plane + ((count_t)within(h + SY, H) * W + within(q * SX + i, W)) * N + n);
#pragma unroll AT_ONCE_S
                        for (int s = 0; s < S; s++) {
                            bool there = h >= 0 && h < H && (inside || (left + s >= 0 && left + s < W));
                            Samples value = lanes(past(line, first + 4u * N * s), there, 0.0f);
                            EACH_LANE(l) across.of[l] += value.of[l];
                        }
#pragma unroll
                        for (int k = 0; k < DEEP; k++)
                            if (k * SY + d < R) EACH_LANE(l) sums[k].of[l] += across.of[l];
                    }
                    int done = p - (DEEP - 1);
                    if (done >= begin) {
                        sum_t cells = (sum_t)(counted(done, R, SY, PY, AY, H) * counted(q, S, SX, PX, AX, W));
                        Samples mean;
                        EACH_LANE(l) mean.of[l] = (float)(sums[DEEP - 1].of[l] / cells);
                        put(y + (((count_t)c * P + done) * Q + q) * N + n, mean, beta);
                    }
                    push(sums, Sums{});
                }
            };
            if (w.end - w.first == S) march(true);
            else march(false);
        }
    }
}

extern "C" __global__ void avg_pool_bprop(const float *dy, float *dx, int bands, int C, int H, int W, int P, int Q,
                                          int N, float beta) {
    int groups = N / LANES, steps = (H - 1 + PY) / SY + 1; // of SY rows, in which the same windows begin
    FOR_ROWS(row, (count_t)C * bands) {
        int c = row / bands, begin = part(row % bands, bands, steps), end = part(row % bands + 1, bands, steps);
        FOR_EACH(i, (count_t)W * groups) {
            int w = i / groups, n = i % groups * LANES, last = (w + PX) / SX, lowest = (w + PX) % SX;
            float share[BROAD]; // of window q = last - j, per column
#pragma unroll
            for (int j = 0; j < BROAD; j++) {
                bool holds = lowest + j * SX < S && j <= last && last - j < Q;
                share[j] = holds ? 1.0f / counted(last - j, S, SX, PX, AX, W) : 0.0f;
            }
            Samples rows[DEEP] = {}; // what window p - k gives to each of its rows
            for (int p = begin - (DEEP - 1); p < end; p++) {
                Samples across = {};
#pragma unroll
                for (int j = BROAD - 1; j >= 0; j--) {
                    bool there = share[j] > 0 && p >= 0 && p < P;
                    Samples delta = lanes(dy + (((count_t)c * P + p) * Q + last - j) * N + n, there, 0.0f);
                    EACH_LANE(l) across.of[l] += delta.of[l] * share[j];
                }
                float down = 1.0f / counted(p, R, SY, PY, AY, H);
                EACH_LANE(l) across.of[l] *= down;
                push(rows, across);
                if (p < begin) continue;
#pragma unroll ROWS_AT_ONCE
                for (int d = 0; d < SY; d++) {
                    Samples total = {};
#pragma unroll
                    for (int k = DEEP - 1; k >= 0; k--)
                        if (k * SY + d < R) EACH_LANE(l) total.of[l] += rows[k].of[l];
                    int at = p * SY - PY + d;
                    if (at >= 0 && at < H) put(dx + (((count_t)c * H + at) * W + w) * N + n, total, beta);
                }
            }
        }
    }
}
