// Convolution, and the delta of its input: products of matrices, the second read from the images where they lie.
//
//   conv_gather   y[m, a, b, n] <- beta*y + bias[m] + sum over c, r, s of wt[c, r, s, m] * x[c, h, w, n],
//                 h = (a*stride_y + start_y + r*step_y) / spread_y, where that is whole and in the image; w likewise
//     fprop:      h = p*SY - PY + r*DY, m = k;   dx: h = (h' + PY - r*DY) / SY, m = c, and x is dy
//                 and with dx: dw, db += their sums, as in conv_shares.cuh
//   conv_turn     wt <- w turned as in conv_turn.cuh; for dx conv_dw does it
//   GROUPED: C and M count the maps of one of the groups, which lie one after another, in w and wt too
//
// Order:   images (C, H, W, N); wt (C, R, S, M). A sum goes tap by tap, c within a tap; with FLAT, as wt lies.
// Threads: a block computes BM maps of BN positions (a, b, n), a tile as in conv_tile.cuh. Where N is a multiple
//          of BN these are of one pixel. Taps that no pixel of the block has are left out: those in the padding,
//          and for dx those between strides. Blocks begin with the middle pixels, which have the most taps.
//          FLAT, for few maps C: a stage takes BK of (c, r, s) rather than of c, and no tap is left out.
//          GROUPED: a row of blocks for each group. The blocks behind all tiles add up what conv_dw has left.
// Bytes:   x from cache, once for each tap and BM maps; wt once for each BN positions; 4 written per y.
// Limits:  any window, stride, pad, dilation and N.
// Source:  the implicit product of Chetlur et al., "cuDNN", arXiv 1410.0759, with N as the innermost axis.
#include "conv_shares.cuh"
#include "conv_turn.cuh"

// One axis of the images: output a has at tap r the input (a*stride + start + r*step) / spread, if it exists.
struct Axis {
    int size, stride, start, step, spread;

    __device__ __forceinline__ bool has(int a, int r, int &h) const {
        int at = a * stride + start + r * step;
        h = spread == 1 ? at : at / spread;
        return at >= 0 && h < size && h * spread == at;
    }
    // Whether it may exist for an output from `first` to `last`.
    __device__ __forceinline__ bool may_have(int first, int last, int r) const {
        int low = first * stride + start + r * step, high = low + (last - first) * stride;
        return high >= 0 && low < size * spread && (first < last || low % spread == 0);
    }
};

// Number i of 0 .. size-1, counted from the middle outwards.
__device__ __forceinline__ int from_middle(int i, int size) {
    return (size - 1) / 2 + (i % 2 ? (i + 1) / 2 : -(i / 2));
}

// Division of numbers below 2^32 / by, by one multiplication.
struct Divisor {
    unsigned by, factor;
    __device__ __forceinline__ Divisor(unsigned by) : by(by), factor(0xffffffffu / by + 1) {}
    __device__ __forceinline__ int of(unsigned value) const { return by == 1 ? value : __umulhi(value, factor); }
};

extern "C" __global__ void conv_turn(const float *w, float *wt, int C, int M, int taps, index_t step_c, index_t step_m,
                                     int groups) {
    turn(w, wt, C, M, taps, groups, step_c, step_m, blockIdx.x * (count_t)blockDim.x + threadIdx.x,
         gridDim.x * (count_t)blockDim.x);
}

#define WLINE (BM + TF32 * 8) // of shared memory: the 4 rows that a warp reads at once for TF32 meet 32 banks
#define XLINE (BN + TF32 * 8)
#define XCOPIES (BN / LANES)                    // for a row of x
#define XSTEP (THREADS / XCOPIES)               // rows at a time
#define XROWS ((BK + XSTEP - 1) / XSTEP)        // of each thread
#define WCOPIES (BM / 4)
#define WSTEP (THREADS / WCOPIES)
#define WROWS ((BK + WSTEP - 1) / WSTEP)
static_assert(THREADS % XCOPIES == 0 && THREADS % WCOPIES == 0, "threads are a multiple of a row's copies");
static_assert(TM % 4 == 0 && TN % 4 == 0, "threads read 4 at once");
static_assert(STAGES * BK * (WLINE + XLINE) >= (GROUPS - 1) * GROUP * TN, "room to add up the groups");

// Adds a thread's product. Its rows are 4 neighbours in each 16, its columns 4 in each 32.
__device__ __forceinline__ void product(float *sum, const float *w, const float *x) {
    float4 u[2][TM / 4], v[2][TN / 4]; // read one term ahead
#pragma unroll
    for (int e = -1; e < DEPTH; e++) {
        if (e + 1 < DEPTH) {
#pragma unroll
            for (int i = 0; i < TM / 4; i++) u[(e + 1) & 1][i] = *(const float4 *)(w + (e + 1) * WLINE + i * 16);
#pragma unroll
            for (int j = 0; j < TN / 4; j++) v[(e + 1) & 1][j] = *(const float4 *)(x + (e + 1) * XLINE + j * 32);
        }
        if (e < 0) continue;
#pragma unroll
        for (int i = 0; i < TM / 4; i++)
#pragma unroll
            for (int j = 0; j < TN / 4; j++) {
                const float4 &a = u[e & 1][i], &b = v[e & 1][j];
                const float rows[4] = {a.x, a.y, a.z, a.w}, columns[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
                for (int l = 0; l < 16; l++) sum[(i * 4 + l / 4) * TN + j * 4 + l % 4] += rows[l / 4] * columns[l % 4];
            }
    }
}

// The sums that a thread has side by side: 4, of a tensor core 2. They are written as one where LANES allows.
#define RUN (TF32 ? 2 : 4)
#define WIDTH (LANES == 1 ? 1 : RUN)
struct alignas(4 * WIDTH) Written {
    float of[WIDTH];
};

extern "C" __global__ void __launch_bounds__(THREADS, FITTING)
conv_gather(const float *__restrict__ x, const float *__restrict__ wt, const float *__restrict__ bias, float *y,
            int C, int H, int W, int M, int P, int Q, int N, int R, int S, int stride_y, int start_y, int step_y,
            int spread_y, int stride_x, int start_x, int step_x, int spread_x, float beta, const float *part, float *dw,
            const float *db_part, float *db, bool flat, int share, int z0, int z1, int pieces) {
    __shared__ __align__(16) float room[STAGES * BK * (WLINE + XLINE)];
    float *ws = room, *xs = room + STAGES * BK * WLINE;
    const Axis down = {H, stride_y, start_y, step_y, spread_y}, across = {W, stride_x, start_x, step_x, spread_x};
    int thread = threadIdx.x, taps = R * S, lines = (M + 3) / 4 * 4, mtiles = (M + BM - 1) / BM;
    int m0 = blockIdx.x % mtiles * BM, tile = blockIdx.x / mtiles;
    count_t total = (count_t)P * Q * N, plane = (count_t)H * W * N, j0 = (count_t)tile * BN;
    if (part && j0 >= total) { // behind the tiles, with dx alone: x is dy, and y the input's delta
        const Cut cut = {flat, P, Q, H, W, N, R, S, spread_y, spread_x, start_y, start_x, -step_y, -step_x, share};
        int maps = C * gridDim.y, block = (blockIdx.x - (total + BN - 1) / BN * mtiles) * gridDim.y + blockIdx.y;
        add_shares(cut, part, dw, (count_t)maps * M * (flat ? taps : 1), z0, z1, db_part, db, maps, pieces, block, room);
        return;
    }
#if GROUPED
    x += blockIdx.y * C * plane, wt += blockIdx.y * (count_t)C * taps * lines, y += blockIdx.y * M * total;
    if (bias) bias += blockIdx.y * M;
#endif
    if (N % BN == 0) {
        int parts = N / BN, pixel = tile / parts;
        j0 = ((count_t)from_middle(pixel / Q, P) * Q + from_middle(pixel % Q, Q)) * N + tile % parts * BN;
    }

    // This thread copies column `col` of x, in each XSTEP-th row of a stage, and four weights in each WSTEP-th.
    int xrow = thread / XCOPIES, col = thread % XCOPIES * LANES, wrow = thread / WCOPIES, wcol = thread % WCOPIES * 4;
    count_t j = j0 + col;
    int n = j % N, pixel = j / N, a = pixel / Q, b = pixel % Q;
    bool column = j < total, maps = m0 + wcol < lines;
    float *xto = xs + xrow * XLINE + col, *wto = ws + wrow * WLINE + wcol;
    const float *wfrom = wt + m0 + wcol;
    int issued = 0;
#if FLAT
    int e0 = 0, deep = C * taps;
    Divisor by_taps(taps), by_s(S);
    auto issue = [&](int stage) {
        if (e0 >= deep) return;
#pragma unroll
        for (int i = 0; i < XROWS; i++) {
            int row = xrow + i * XSTEP, e = e0 + row, c = by_taps.of(e), tap = e - c * taps, r = by_s.of(tap), h, w;
            if (BK % XSTEP && row >= BK) continue;
            bool there = column && e < deep && down.has(a, r, h) && across.has(b, tap - r * S, w);
            const float *from = there ? x + c * plane + ((count_t)h * W + w) * N + n : x;
            copy(xto + (stage * BK + i * XSTEP) * XLINE, from, LANES, there);
        }
#pragma unroll
        for (int i = 0; i < WROWS; i++) {
            int row = wrow + i * WSTEP;
            if (BK % WSTEP && row >= BK) continue;
            bool there = maps && e0 + row < deep;
            const float *from = there ? wfrom + (count_t)(e0 + row) * lines : wt;
            copy(wto + (stage * BK + i * WSTEP) * WLINE, from, 4, there);
        }
        e0 += BK;
        issued++;
    };
#else
    int a0 = j0 / N / Q, a1 = (min(j0 + BN, total) - 1) / N / Q; // the rows of this tile's pixels, and columns
    int b0 = a0 == a1 ? j0 / N % Q : 0, b1 = a0 == a1 ? (min(j0 + BN, total) - 1) / N % Q : Q - 1;
    int r = 0, s = -1, c0 = C;
    bool met = false;
    const float *from = x;
    auto issue = [&](int stage) {
        if (c0 >= C) { // the next tap that a pixel may have
            do
                if (++s == S) s = 0, r++;
            while (r < R && !(down.may_have(a0, a1, r) && across.may_have(b0, b1, s)));
            if (r >= R) return;
            int h, w;
            met = column && down.has(a, r, h) && across.has(b, s, w);
            from = met ? x + xrow * plane + ((count_t)h * W + w) * N + n : x;
            wfrom = wt + ((count_t)wrow * taps + r * S + s) * lines + m0 + wcol;
            c0 = 0;
        }
#pragma unroll
        for (int i = 0; i < XROWS; i++) {
            if (BK % XSTEP && xrow + i * XSTEP >= BK) continue;
            bool there = met && c0 + xrow + i * XSTEP < C;
            copy(xto + (stage * BK + i * XSTEP) * XLINE, there ? from + i * XSTEP * plane : x, LANES, there);
        }
#pragma unroll
        for (int i = 0; i < WROWS; i++) {
            if (BK % WSTEP && wrow + i * WSTEP >= BK) continue;
            bool there = maps && c0 + wrow + i * WSTEP < C;
            const float *at = there ? wfrom + (count_t)(i * WSTEP) * taps * lines : wt;
            copy(wto + (stage * BK + i * WSTEP) * WLINE, at, 4, there);
        }
        if (met) from += BK * plane;
        wfrom += (count_t)BK * taps * lines;
        c0 += BK;
        issued++;
    };
#endif

    const Worker me(thread);
    float sum[TM * TN] = {};
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        issue(stage);
        __pipeline_commit();
    }
    int stage = 0, fill = STAGES - 1;
    for (int step = 0; step < issued; step++) {
        __pipeline_wait_prior(STAGES - 2);
        __syncthreads();
        issue(fill);
        __pipeline_commit();
        const float *wp = ws + (stage * BK + me.group * DEPTH) * WLINE + me.m;
        const float *xp = xs + (stage * BK + me.group * DEPTH) * XLINE + me.n;
#if TF32
        tensor_product<1, WLINE, 1, XLINE>(sum, wp, xp);
#else
        product(sum, wp + me.lane / 8 * 4, xp + me.lane % 8 * 4);
#endif
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        fill = fill + 1 == STAGES ? 0 : fill + 1;
    }
    add_groups(sum, room, me);
    if (me.group > 0) return;

#pragma unroll
    for (int f = 0; f < TM * TN / RUN; f++) {
#if TF32
        int m = m0 + me.m + pair_m(f, me.lane);
        count_t to = j0 + me.n + pair_n(f, me.lane);
#else
        int i = f / (TN / 4), m = m0 + me.m + me.lane / 8 * 4 + i / 4 * 16 + i % 4;
        count_t to = j0 + me.n + me.lane % 8 * 4 + f % (TN / 4) * 32;
#endif
        if (m >= M) continue;
        float added = bias ? bias[m] : 0;
#pragma unroll
        for (int l = 0; l < RUN; l += WIDTH) {
            if (to + l >= total) continue;
            Written value, *at = (Written *)(y + m * total + to + l);
#pragma unroll
            for (int k = 0; k < WIDTH; k++) value.of[k] = sum[f * RUN + l + k] + added;
            if (beta != 0) {
                Written before = *at;
#pragma unroll
                for (int k = 0; k < WIDTH; k++) value.of[k] += beta * before.of[k];
            }
            *at = value;
        }
    }
}
