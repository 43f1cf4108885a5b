// The gradient of a convolution's weights: a product whose factors are read from the images where they lie.
//
//   conv_dw      part[z, k, c]     <- sum over the positions (p, q, n) of share z of dy[k, p, q, n] * x[c, h, w, n],
//                                     h = p*SY - PY + r*DY, w = q*SX - PX + s*DX, of the tap to which the share belongs
//                db_part[piece, k] <- sum over a piece of the positions of dy[k, p, q, n]
//                wt                <- w turned for dx, as in conv_turn.cuh
//   conv_dw_sum  dw, db            += the sums of these, as in conv_shares.cuh; if there is a dx, conv_gather does it
//
// Order:   images (C, H, W, N); shares as in conv_shares.cuh. FLAT, for few maps C: part[z, k, (c, r, s)].
//          GROUPED: C and K count the maps of one group.
// Threads: a block computes BM maps k by BN maps c of a share, a tile as in conv_tile.cuh. Of the blocks behind those of
//          the shares z0 .. z1-1 each adds up one of `pieces` pieces of a map, and the others turn w.
// Bytes:   dy and x from cache, once for each tap and BN or BM maps; dy once more for db; 8 per part.
// Limits:  any window, stride, pad, dilation and N.
#include "conv_shares.cuh"
#include "conv_turn.cuh"

#define LINE (BK + 4)           // of shared memory: 16-byte reads down 8 rows meet 8 different banks
#define COPIES (BK / LANES)     // for a row
#define STEP (THREADS / COPIES) // rows at a time
#define YROWS ((BM + STEP - 1) / STEP)
#define XROWS ((BN + STEP - 1) / STEP)
static_assert(THREADS % COPIES == 0 && DEPTH % 4 == 0, "threads are a multiple of a row's copies, and read 4 at once");
static_assert(STAGES * LINE * (BM + BN) >= (GROUPS - 1) * GROUP * TN, "room to add up the groups");

// Adds a thread's product. Its rows are every fourth, its columns every eighth; four terms are read at once.
__device__ __forceinline__ void product(float *sum, const float *y, const float *x) {
#pragma unroll
    for (int e = 0; e < DEPTH; e += 4) {
        float4 u[TM];
#pragma unroll
        for (int i = 0; i < TM; i++) u[i] = *(const float4 *)(y + i * 4 * LINE + e);
#pragma unroll
        for (int j = 0; j < TN; j++) {
            float4 v = *(const float4 *)(x + j * 8 * LINE + e);
#pragma unroll
            for (int i = 0; i < TM; i++) sum[i * TN + j] += u[i].x * v.x;
#pragma unroll
            for (int i = 0; i < TM; i++) sum[i * TN + j] += u[i].y * v.y;
#pragma unroll
            for (int i = 0; i < TM; i++) sum[i * TN + j] += u[i].z * v.z;
#pragma unroll
            for (int i = 0; i < TM; i++) sum[i * TN + j] += u[i].w * v.w;
        }
    }
}

// part[piece, k] <- the sum over a piece of dy[k, :], by the block of number k*pieces + piece.
__device__ __forceinline__ void add_piece(const float *dy, float *part, int maps, count_t length, int pieces, int block) {
    int k = block / pieces, piece = block % pieces;
    count_t size = (length / LANES + pieces - 1) / pieces, end = min(piece * size + size, length / LANES);
    const Samples *row = (const Samples *)(dy + k * length);
    Samples sums = {};
#pragma unroll 8
    for (count_t i = piece * size + threadIdx.x; i < end; i += THREADS) {
        Samples value = row[i];
        EACH_LANE(l) sums.of[l] += value.of[l];
    }
    float sum = 0;
    EACH_LANE(l) sum += sums.of[l];
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[piece * maps + k] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS, FITTING)
conv_dw(const float *__restrict__ x, const float *__restrict__ dy, const float *w, float *__restrict__ part,
        float *db_part, float *wt, int C, int H, int W, int K, int P, int Q, int N, int R, int S, int SY, int SX, int PY,
        int PX, int DY, int DX, int groups, int share, int z0, int z1, int pieces) {
    __shared__ __align__(16) float room[STAGES * LINE * (BM + BN)];
    float *ys = room, *xs = room + STAGES * LINE * BM;
    int thread = threadIdx.x, j0 = blockIdx.x * BN, k0 = blockIdx.y * BM, taps = R * S, tap = 0, z = z0 + blockIdx.z;
    int maps = GROUPED ? K * groups : K;
    count_t plane = (count_t)H * W * N, total = (count_t)P * Q * N;
    if (z >= z1) {
        int tiles = gridDim.x * gridDim.y, block = (z - z1) * tiles + blockIdx.y * gridDim.x + blockIdx.x;
        int summing = maps * pieces, turning = ((int)gridDim.z - (z1 - z0)) * tiles - summing;
        if (block < summing)
            add_piece(dy, db_part, maps, total, pieces, block);
        else if (wt)
            turn(w, wt, K, C, taps, groups, C * (index_t)taps, taps, (block - summing) * THREADS + thread,
                 turning * THREADS);
        return;
    }
    const Cut cut = {FLAT, H, W, P, Q, N, R, S, SY, SX, PY, PX, DY, DX, share};
#if GROUPED
    int ktiles = (K + BM - 1) / BM, group = blockIdx.y / ktiles;
    k0 = blockIdx.y % ktiles * BM;
    x += group * C * plane, dy += group * K * total;
    part += group * K * (count_t)(FLAT ? C * taps : C);
#endif
#if !FLAT // the tap to which share z belongs: the lanes of a warp count the shares of 32 taps
    for (int lane = thread % 32;; tap += 32) {
        int count = tap + lane < taps ? cut.shares(tap + lane) : 0, end = count;
        for (int step = 1; step < 32; step *= 2) {
            int before = __shfl_up_sync(0xffffffffu, end, step);
            if (lane >= step) end += before;
        }
        int past = __popc(__ballot_sync(0xffffffffu, end <= z));
        z -= past ? __shfl_sync(0xffffffffu, end, past - 1) : 0;
        if (past < 32) {
            tap += past;
            break;
        }
    }
#endif
    const Span down = cut.down(tap), across = cut.across(tap);
    count_t end = (count_t)down.size * across.size * N;
    count_t begin = (count_t)z * share;
    end = min(end, begin + share);
    int steps = (end - begin + BK - 1) / BK, row_size = FLAT ? C * taps : C, columns = min(BN, row_size - j0);

    // This thread copies from position `at` of every BK on, in each STEP-th row.
    int row = thread / COPIES, v = thread % COPIES * LANES;
    count_t at = begin + v;
    int n = at % N, q = at / N % across.size, p = at / N / across.size + down.first;
    q += across.first;
    const float *yfrom = dy + (k0 + row) * total;
    float *yto = ys + row * LINE + v, *xto = xs + row * LINE + v;
    int rows_end = across.first + across.size;
#if FLAT
    int up[XROWS], left[XROWS]; // of each row's tap, and its x at output (0, 0)
    count_t base[XROWS];
#pragma unroll
    for (int i = 0; i < XROWS; i++) {
        int e = j0 + row + i * STEP, c = e / taps, t = e % taps;
        up[i] = t / S * DY - PY, left[i] = t % S * DX - PX;
        base[i] = c * plane + ((count_t)up[i] * W + left[i]) * N;
    }
#else
    int up = tap / S * DY - PY, left = tap % S * DX - PX;
    count_t base = (j0 + row) * plane + ((count_t)up * W + left) * N;
#endif
    auto issue = [&](int stage) {
        bool inside = at < end;
        count_t from = ((count_t)p * Q + q) * N + n, place = ((count_t)p * SY * W + q * SX) * N + n;
#pragma unroll
        for (int i = 0; i < YROWS; i++) {
            if (BM % STEP && row + i * STEP >= BM) continue;
            bool there = inside && k0 + row + i * STEP < K;
            copy(yto + (stage * BM + i * STEP) * LINE, there ? yfrom + i * STEP * total + from : dy, LANES, there);
        }
#pragma unroll
        for (int i = 0; i < XROWS; i++) {
            if (BN % STEP && row + i * STEP >= BN) continue;
            bool there = inside && row + i * STEP < columns;
#if FLAT
            int h = p * SY + up[i], w = q * SX + left[i];
            there = there && h >= 0 && h < H && w >= 0 && w < W;
            count_t at = base[i] + place;
#else
            count_t at = base + i * STEP * plane + place;
#endif
            copy(xto + (stage * BN + i * STEP) * LINE, there ? x + at : x, LANES, there);
        }
        at += BK;
        n += BK;
        while (n >= N) {
            n -= N;
            if (++q == rows_end) q = across.first, p++;
        }
    };

    const Worker me(thread);
    float sum[TM * TN] = {};
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage < steps) issue(stage);
        __pipeline_commit();
    }
    int stage = 0, fill = STAGES - 1;
    for (int step = 0; step < steps; step++) {
        __pipeline_wait_prior(STAGES - 2);
        __syncthreads();
        if (step + STAGES - 1 < steps) issue(fill);
        __pipeline_commit();
        const float *yp = ys + (stage * BM + me.m) * LINE + me.group * DEPTH;
        const float *xp = xs + (stage * BN + me.n) * LINE + me.group * DEPTH;
#if TF32
        tensor_product<LINE, 1, LINE, 1>(sum, yp, xp);
#else
        product(sum, yp + me.lane / 8 * LINE, xp + me.lane % 8 * LINE);
#endif
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        fill = fill + 1 == STAGES ? 0 : fill + 1;
    }
    add_groups(sum, room, me);
    if (me.group > 0) return;
#pragma unroll
    for (int f = 0; f < TM * TN; f++) {
#if TF32
        int k = me.m + pair_m(f / 2, me.lane), j = me.n + pair_n(f / 2, me.lane) + f % 2;
#else
        int k = me.m + me.lane / 8 + f / TN * 4, j = me.n + me.lane % 8 + f % TN * 8;
#endif
        if (k0 + k < K && j < columns) part[((count_t)blockIdx.z * maps + k0 + k) * row_size + j0 + j] = sum[f];
    }
}

extern "C" __global__ void conv_dw_sum(const float *part, float *dw, const float *db_part, float *db, int C, int H, int W,
                                       int K, int P, int Q, int N, int R, int S, int SY, int SX, int PY, int PX, int DY,
                                       int DX, int groups, int share, int z0, int z1, int pieces) {
    __shared__ float room[THREADS];
    const Cut cut = {FLAT, H, W, P, Q, N, R, S, SY, SX, PY, PX, DY, DX, share};
    int maps = K * groups;
    add_shares(cut, part, dw, (count_t)maps * C * (FLAT ? R * S : 1), z0, z1, db_part, db, maps, pieces, blockIdx.x, room);
}
