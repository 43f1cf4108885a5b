// Average pooling window by window, where windows are spread by a dilation or differ in size (`out`).
//
// Order:   rows of the window from the top down, each from left to right; in bprop windows (p, q) alike.
// Threads: one per LANES outputs in fprop, inputs in bprop, a row of blocks per (c, p) or (c, h). bprop gathers.
// Bytes:   per x 4 read and written; what windows share comes from cache.
// Limits:  any window. One of thousands of pixels is summed in float64: float32 would lose digits.
// Twin of minet/loops/avg_pool.py for these windows, as avg_pool.cu is for the others.
// Source:  PyTorch's AdaptiveAvgPool2d for the bounds of `out`.
#include "minet.cuh"
#include "window.cuh"

#if R * S > 1024
typedef double sum_t;
#else
typedef float sum_t;
#endif

// Where part number i ends, if neighbours may share a position.
__device__ __forceinline__ int part_end(int i, int parts, int size) {
    return quotient(size * (i + 1ull) + parts - 1, parts);
}

// What window p meets along an axis: `taps` positions from `first` on, and what its mean divides by.
struct Met {
    int first, taps, counted;
};

__device__ __forceinline__ Met met(int p, int windows, int taps, int stride, int pad, int step, int after, int size) {
    if (ADAPTIVE) {
        int first = part(p, windows, size), end = part_end(p, windows, size);
        return {first, end - first, end - first};
    }
    int start = p * stride - pad, skipped = start < 0 ? (step - 1 - start) / step : 0;
    int inside = min(taps, (size - 1 - start) / step + 1) - skipped;
    return {start + skipped * step, inside,
            COUNT_PAD ? min(taps, (size + after - 1 - start) / step + 1) : inside};
}

// The windows that can hold position h: `held` candidates; number i is candidate(i), or -1.
struct Holding {
    int first, held, taps, stride, step, windows, at;
    __device__ Holding(int h, int windows, int taps, int stride, int pad, int step, int size)
        : first(0), held(taps), taps(taps), stride(stride), step(step), windows(windows), at(h + pad) {
        if (!ADAPTIVE) return;
        first = part(h, size, windows);
        held = part_end(h, size, windows) - first;
    }
    __device__ int candidate(int i) const {
        if (ADAPTIVE) return first + i;
        int from = at - (taps - 1 - i) * step; // as if tap taps - 1 - i were here
        return from >= 0 && from % stride == 0 && from / stride < windows ? from / stride : -1;
    }
};

extern "C" __global__ void avg_pool_direct_fprop(const float *x, float *y, int C, int H, int W, int P, int Q, int N,
                                                 float beta) {
    int groups = N / LANES;
    FOR_ROWS(row, (count_t)C * P) {
        Met h = met(row % P, P, R, SY, PY, DY, AY, H);
        const Samples *plane = (const Samples *)(x + (row / P) * H * W * N);
        FOR_EACH(i, (count_t)Q * groups) {
            Met w = met(i / groups, Q, S, SX, PX, DX, AX, W);
            sum_t total[LANES] = {}, counted = h.counted * w.counted;
            for (int r = 0; r < h.taps; r++)
                for (int s = 0; s < w.taps; s++) {
                    Samples value = plane[((count_t)(h.first + r * DY) * W + w.first + s * DX) * groups + i % groups];
                    EACH_LANE(l) total[l] += value.of[l];
                }
            Samples mean;
            EACH_LANE(l) mean.of[l] = (float)(total[l] / counted);
            put(y + row * Q * N + i * LANES, mean, beta);
        }
    }
}

extern "C" __global__ void avg_pool_direct_bprop(const float *dy, float *dx, int C, int H, int W, int P, int Q, int N,
                                                 float beta) {
    int groups = N / LANES;
    FOR_ROWS(row, (count_t)C * H) {
        Holding rows(row % H, P, R, SY, PY, DY, H);
        const Samples *plane = (const Samples *)(dy + (row / H) * P * Q * N);
        FOR_EACH(i, (count_t)W * groups) {
            Holding columns(i / groups, Q, S, SX, PX, DX, W);
            sum_t total[LANES] = {};
            for (int k = 0; k < rows.held; k++) {
                int p = rows.candidate(k);
                if (p < 0) continue;
                float down = 1.0f / met(p, P, R, SY, PY, DY, AY, H).counted;
                for (int j = 0; j < columns.held; j++) {
                    int q = columns.candidate(j);
                    if (q < 0) continue;
                    float weight = down * (1.0f / met(q, Q, S, SX, PX, DX, AX, W).counted);
                    Samples delta = plane[((count_t)p * Q + q) * groups + i % groups];
                    EACH_LANE(l) total[l] += delta.of[l] * weight;
                }
            }
            Samples sum;
            EACH_LANE(l) sum.of[l] = (float)total[l];
            put(dx + row * W * N + i * LANES, sum, beta);
        }
    }
}
