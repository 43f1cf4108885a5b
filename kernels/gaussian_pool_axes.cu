// Gaussian pooling along one axis after the other, for windows that are long, spread, or as large as the image.
//
//   v = A x along one axis, y = B v along the other;  e = B^T dy,  dx = sum over kernels of A^T e,
//   slopes of A's parameters: sum of e * (A' x), of B's: sum of dy * (B' v), where ' is the weights' derivative
//
// Order:   an image is (lines, length, inner), its axis in the middle: (1, H, W*N) or (H, W, N). The layer takes the axis
//          first that leaves less to do for the other. Sums go tap by tap.
// Threads: one per LANES elements of what is written; blocks stride over the slopes' sums and add up as in
//          gaussian_pool.cu.
// Bytes:   per x 4 read in the first pass, for up to AT_ONCE kernels together; per v 4 written and 4 read.
// Limits:  any window: none is held in registers.
// Twin of minet/loops/gaussian_pool.py for these windows.
// Source:  as gaussian_pool.cu, whose march down the columns is faster for windows that registers hold.
#include "gaussian_pool.cuh"

constexpr int KINDS = 3; // of the tables, which are made in advance

// The windows along an axis: down if DOWN, else across.
template <bool DOWN> struct Along {
    static constexpr int TAPS = DOWN ? R : S, STRIDE = DOWN ? SY : SX, PAD = DOWN ? PY : PX, STEP = DOWN ? DY : DX;
    Places places;
    int size;
    __device__ Along(int size) : places(DOWN ? REACH_Y : REACH_X, STRIDE, PAD, size), size(size) {}
    // The weights of window o in the tables of a kernel; their derivatives follow, PADDED(TAPS) apart.
    __device__ const float *weights(const float *table, int o) const {
        return table + (DOWN ? places.of(o) * ROW : COLS + places.of(o) * COL);
    }
    __device__ int begin(int o) const { return first_inside(o * STRIDE - PAD, STEP); }
    __device__ int end(int o) const { return min(TAPS, (size - (o * STRIDE - PAD) + STEP - 1) / STEP); }
    __device__ int at(int o, int r) const { return o * STRIDE - PAD + r * STEP; }
};

// dst <- beta*dst + A src, where src has channels, if FIRST, and gives KERNELS results of each; else such results.
template <bool DOWN, bool FIRST>
__device__ __forceinline__ void apply(const float *src, float *dst, const float *tables, int shared_sets, int C,
                                      int lines, int length, int outs, int inner, float beta) {
    constexpr int COUNT = FIRST ? AT_ONCE : 1;
    Along<DOWN> along(length);
    int groups = inner / LANES, parts = FIRST ? (KERNELS + COUNT - 1) / COUNT : KERNELS;
    FOR_ROWS(line, (count_t)C * parts * lines * outs) {
        int o = line % outs, row = line / outs % lines, c = line / outs / lines % C, j0 = line / outs / lines / C * COUNT;
        const float *from = src + ((count_t)(FIRST ? c : j0 * C + c) * lines + row) * length * inner;
        const float *weights = along.weights(tables + (count_t)((shared_sets ? 0 : c * KERNELS) + j0) * TABLE, o);
        FOR_EACH(i, groups) {
            Samples sums[COUNT] = {};
            for (int r = along.begin(o); r < along.end(o); r++) {
                Samples value = *(const Samples *)(from + (count_t)along.at(o, r) * inner + i * LANES);
#pragma unroll
                for (int j = 0; j < COUNT; j++) {
                    float weight = j0 + j < KERNELS ? weights[(count_t)j * TABLE + r] : 0;
                    EACH_LANE(l) sums[j].of[l] += weight * value.of[l];
                }
            }
#pragma unroll
            for (int j = 0; j < COUNT; j++)
                if (j0 + j < KERNELS)
                    put(dst + ((((count_t)(j0 + j) * C + c) * lines + row) * outs + o) * inner + i * LANES, sums[j], beta);
        }
    }
}

// dst <- beta*dst + A^T src, of each result by itself, or if ALL the sum over a channel's.
template <bool DOWN, bool ALL>
__device__ __forceinline__ void apply_transposed(const float *src, float *dst, const float *tables, int shared_sets,
                                                 int C, int lines, int length, int outs, int inner, float beta) {
    using A = Along<DOWN>;
    A along(length);
    int groups = inner / LANES, kernels = ALL ? KERNELS : 1;
    FOR_ROWS(line, (count_t)C * (ALL ? 1 : KERNELS) * lines * length) {
        int at = line % length + A::PAD, row = line / length % lines, plane = line / length / lines, c = plane % C;
        const float *table = tables + (count_t)((shared_sets ? 0 : c * KERNELS) + plane / C) * TABLE;
        // Without a dilation, the taps that can be here are a stride apart.
        int lowest = A::STEP == 1 ? at % A::STRIDE : 0;
        constexpr int NEXT = A::STEP == 1 ? A::STRIDE : 1;
        FOR_EACH(i, groups) {
            Samples sum = {};
            for (int j = 0; j < kernels; j++)
                for (int r = lowest; r < A::TAPS; r += NEXT) {
                    int start = at - r * A::STEP, o = start / A::STRIDE;
                    if (start < 0 || o >= outs || o * A::STRIDE != start) continue;
                    const float *from = src + (((count_t)(plane + j * C) * lines + row) * outs + o) * inner;
                    Samples delta = *(const Samples *)(from + i * LANES);
                    float weight = along.weights(table + (count_t)j * TABLE, o)[r];
                    EACH_LANE(l) sum.of[l] += weight * delta.of[l];
                }
            put(dst + line * inner + i * LANES, sum, beta);
        }
    }
}

// Two of a kernel's four sums, by mean and log_sigma along this axis: of delta * (A' src), where A' has the weights'
// derivatives. A row of blocks for each kernel and channel.
template <bool DOWN, bool FIRST>
__device__ __forceinline__ void slopes(const float *src, const float *delta, const float *tables, float *parts,
                                       int shared_sets, int C, int lines, int length, int outs, int inner) {
    using A = Along<DOWN>;
    A along(length);
    int groups = inner / LANES;
    FOR_ROWS(plane, (count_t)C * KERNELS) {
        int c = plane % C, j = plane / C, set = (shared_sets ? 0 : c * KERNELS) + j;
        const float *from = src + (FIRST ? c : plane) * lines * length * inner;
        const float *deltas = delta + plane * lines * outs * inner, *table = tables + (count_t)set * TABLE;
        float by_mean = 0, by_sigma = 0;
        FOR_EACH(i, (count_t)lines * outs * groups) {
            int n = i % groups * LANES, o = i / groups % outs, row = i / groups / outs;
            const float *weights = along.weights(table, o);
            Samples mean = {}, sigma = {}, d = *(const Samples *)(deltas + (i / groups) * inner + n);
            for (int r = along.begin(o); r < along.end(o); r++) {
                Samples value = *(const Samples *)(from + ((count_t)row * length + along.at(o, r)) * inner + n);
                EACH_LANE(l) mean.of[l] += weights[PADDED(A::TAPS) + r] * value.of[l];
                EACH_LANE(l) sigma.of[l] += weights[2 * PADDED(A::TAPS) + r] * value.of[l];
            }
            EACH_LANE(l) by_mean += d.of[l] * mean.of[l], by_sigma += d.of[l] * sigma.of[l];
        }
        int blocks = gridDim.x * (shared_sets ? C : 1), block = blockIdx.x + (shared_sets ? c * gridDim.x : 0);
        by_mean = block_sum(by_mean), by_sigma = block_sum(by_sigma);
        if (threadIdx.x == 0) {
            parts[((count_t)set * 4 + (DOWN ? 0 : 1)) * blocks + block] = by_mean;
            parts[((count_t)set * 4 + (DOWN ? 2 : 3)) * blocks + block] = by_sigma;
        }
    }
}

// These two are gaussian_pool.cu's, which is not compiled for windows that it cannot hold.
extern "C" __global__ void gaussian_pool_axes_weights(const float *mean, const float *log_sigma, float *tables, int sets,
                                                      int H, int W) {
    make_tables<3>(tables, mean, log_sigma, sets, H, W, blockIdx.x * blockDim.x + threadIdx.x,
                   gridDim.x * blockDim.x);
}

extern "C" __global__ void gaussian_pool_axes_slopes(const float *parts, float *dmean, float *dlog_sigma, int blocks) {
    add_shares(parts, dmean, dlog_sigma, blocks);
}

// The kernels: `down` says along which axis.
#define EITHER(call)                                                                                       \
    if (down) {                                                                                            \
        constexpr bool DOWN = true;                                                                        \
        call;                                                                                              \
    } else {                                                                                               \
        constexpr bool DOWN = false;                                                                       \
        call;                                                                                              \
    }

// Of channels, all kernels' results along the first axis.
extern "C" __global__ void gaussian_pool_axes_first(const float *src, float *dst, const float *tables, int down,
                                               int shared_sets, int C, int lines, int length, int outs, int inner) {
    EITHER((apply<DOWN, true>(src, dst, tables, shared_sets, C, lines, length, outs, inner, 0)))
}

// Of these, the results along the other axis.
extern "C" __global__ void gaussian_pool_axes_second(const float *src, float *dst, const float *tables, int down,
                                                int shared_sets, int C, int lines, int length, int outs, int inner,
                                                float beta) {
    EITHER((apply<DOWN, false>(src, dst, tables, shared_sets, C, lines, length, outs, inner, beta)))
}

// The deltas of the second pass's input.
extern "C" __global__ void gaussian_pool_axes_back(const float *src, float *dst, const float *tables, int down,
                                              int shared_sets, int C, int lines, int length, int outs, int inner) {
    EITHER((apply_transposed<DOWN, false>(src, dst, tables, shared_sets, C, lines, length, outs, inner, 0)))
}

// The deltas of the first pass's input.
extern "C" __global__ void gaussian_pool_axes_dx(const float *src, float *dst, const float *tables, int down,
                                            int shared_sets, int C, int lines, int length, int outs, int inner,
                                            float beta) {
    EITHER((apply_transposed<DOWN, true>(src, dst, tables, shared_sets, C, lines, length, outs, inner, beta)))
}

// The shares of the slopes of the parameters along one axis.
extern "C" __global__ void gaussian_pool_axes_shares(const float *src, const float *delta, const float *tables, float *parts,
                                                int down, int first, int shared_sets, int C, int lines, int length,
                                                int outs, int inner) {
    if (first) {
        EITHER((slopes<DOWN, true>(src, delta, tables, parts, shared_sets, C, lines, length, outs, inner)))
    } else {
        EITHER((slopes<DOWN, false>(src, delta, tables, parts, shared_sets, C, lines, length, outs, inner)))
    }
}
