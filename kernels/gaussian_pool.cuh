// The weights of Gaussian pooling, and their slopes: tables [kernel][axis][place][w, dw/dmean, dw/dlog_sigma][tap].
//
// Taps are padded with zeros to a multiple of 4. Windows inside the image have the same weights and share one
// place; each window over an edge has its own: a softmax over the taps inside makes the edge exact.
#pragma once
#include "minet.cuh"
#include "window.cuh"

#define PADDED(taps) (((taps) + 3) / 4 * 4)
constexpr int AT_ONCE = KERNELS < 4 ? KERNELS : 4; // kernels that a thread computes together, unless all
#define SUM 0
#define L2 1
#define NONE 2

// KINDS rows of a table (w and its slopes) for one window along one axis. Moments are taken about the largest
// weight's tap, where nothing cancels: d^2 - E[d^2] = 2 d0 (t - E[t]) + t^2 - E[t^2] with d = d0 + t.
template <int KINDS>
__device__ __forceinline__ void weigh(float *out, float mean, float log_sigma, int taps, int step, int first,
                                      int size) {
    // Finite for any finite log_sigma: next to 0 an infinity would make NaN.
    float precision = log_sigma < -44 ? expf(88) + 0 * log_sigma : expf(-2 * log_sigma);
    float centre = 0.5f * (taps - 1) + mean;
    int from = first_inside(first, step), to = min(taps, (size - first + step - 1) / step); // taps in the image
    int begin = EXACT ? from : 0, end = EXACT ? to : taps;
    float nearest = NORMALIZE == NONE ? 0 : min(max(rintf(centre), (float)begin), end - 1.0f), d0 = nearest - centre;
    float total = 0, moment1 = 0, moment2 = 0, scale = 1;
    // However far away the mean is, one exponential of a row is 1.
    auto share = [&](int i) {
        float t = i - nearest, square = NORMALIZE == NONE ? (d0 + t) * (d0 + t) : t * (t + 2 * d0);
        return expf(-0.5f * precision * square);
    };
    if (NORMALIZE != NONE) {
        for (int i = begin; i < end; i++) {
            float t = i - nearest, s = share(i);
            total += s, moment1 += s * t, moment2 += s * t * t;
        }
        scale = 1 / total, moment1 *= scale, moment2 *= scale;
    }
    for (int i = 0; i < PADDED(taps); i++) {
        float t = i - nearest, w = 0;
        if (i >= from && i < to) w = share(i) * scale;
        if (NORMALIZE == L2) w = sqrtf(w);
        w = w <= 1.17549435e-38f ? 0 : w; // as on the cpu, which is slow with smaller numbers
        out[i] = w;
        if (KINDS == 1) continue;
        float slope = (NORMALIZE == L2 ? 0.5f : 1.0f) * precision * w;
        out[PADDED(taps) + i] = slope * (NORMALIZE == NONE ? t + d0 : t - moment1);
        out[2 * PADDED(taps) + i] =
            slope * (NORMALIZE == NONE ? (t + d0) * (t + d0) : 2 * d0 * (t - moment1) + (t * t - moment2));
    }
}

// Places of windows along one axis: `over` over the first edge, one inside, some over the last edge.
struct Places {
    int over, first_over_last;
    __device__ Places(int reach, int stride, int pad, int size) {
        over = (pad + stride - 1) / stride;
        first_over_last = max(over, (size + pad - reach) / stride + 1);
    }
    __device__ int of(int p) const {
        return p < over ? p : p < first_over_last ? over : p - first_over_last + over + 1;
    }
    __device__ int window(int place) const { return place <= over ? place : first_over_last + place - over - 1; }
};
#define PLACES_Y ((PY + SY - 1) / SY + 1 + (AY + SY - 1) / SY) // AY and AX: how far windows hang over the last edge
#define PLACES_X ((PX + SX - 1) / SX + 1 + (AX + SX - 1) / SX)
#define REACH_Y ((R - 1) * DY + 1)
#define REACH_X ((S - 1) * DX + 1)
#define ROW (KINDS * PADDED(R)) // numbers per place along y; KINDS is 1 or 3
#define COL (KINDS * PADDED(S)) // along x
#define COLS (PLACES_Y * ROW)           // where those along x begin
#define NOWHERE (COLS + PLACES_X * COL) // zeros, for windows that do not exist
#define TABLE (NOWHERE + COL)

// The tables of `count` kernels; thread number `thread` of `threads` builds its part.
template <int KINDS>
__device__ void make_tables(float *tables, const float *mean, const float *log_sigma, int count, int H, int W,
                            int thread, int threads) {
    Places rows(REACH_Y, SY, PY, H), cols(REACH_X, SX, PX, W);
    for (int i = thread; i < count * COL; i += threads) tables[(count_t)(i / COL) * TABLE + NOWHERE + i % COL] = 0;
    for (int i = thread; i < count * (PLACES_Y + PLACES_X); i += threads) {
        int j = i / (PLACES_Y + PLACES_X), place = i % (PLACES_Y + PLACES_X), x = place - PLACES_Y;
        float *table = tables + (count_t)j * TABLE;
        if (x < 0)
            weigh<KINDS>(table + place * ROW, mean[2 * j], log_sigma[2 * j], R, DY, rows.window(place) * SY - PY, H);
        else
            weigh<KINDS>(table + COLS + x * COL, mean[2 * j + 1], log_sigma[2 * j + 1], S, DX,
                         cols.window(x) * SX - PX, W);
    }
}

// `table`: the tables of a channel's kernels, from number `set` on, built by each block or in advance.
#if APART
#define TABLES(kinds, set)                                                                                 \
    constexpr int KINDS = 3;                                                                               \
    const float *table = tables + (count_t)(set) * TABLE;
#else
#define TABLES(kinds, set)                                                                                 \
    constexpr int KINDS = kinds;                                                                           \
    __shared__ __align__(16) float table[KERNELS * TABLE];                                                 \
    make_tables<KINDS>(table, mean + 2 * (set), log_sigma + 2 * (set), KERNELS, H, W,                      \
                       threadIdx.y * blockDim.x + threadIdx.x, blockDim.x * blockDim.y);                   \
    __syncthreads();
#endif

// A block per slope, four per kernel: the sum over `blocks` parts, added to dmean or dlog_sigma unless null.
__device__ __forceinline__ void add_shares(const float *parts, float *dmean, float *dlog_sigma, int blocks) {
    float *to = blockIdx.x % 4 < 2 ? dmean : dlog_sigma, total = 0;
    if (!to) return;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) total += parts[(count_t)blockIdx.x * blocks + i];
    total = block_sum(total);
    if (threadIdx.x == 0) to[blockIdx.x / 4 * 2 + blockIdx.x % 2] += total;
}
