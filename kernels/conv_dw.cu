// The gradient of a convolution's weights: a product whose factors are read from the images where they lie.
//
//   conv_dw       part[z, k, c] <- sum over the positions (p, q, n) of share z of dy[k, p, q, n] * x[c, h, w, n],
//                 h = p*SY - PY + r*DY, w = q*SX - PX + s*DX, of the tap (r, s) to which the share belongs
//   conv_dw_sum   dw[k, c, r, s] += sum over the tap's shares of part[z, k, c], of the shares z0 .. z1-1 at hand
//
// Order:   images (C, H, W, N), dw (K, C, R, S). A tap's positions are those of the outputs (p, q) that have it in
//          the image, row by row, in shares of `share` positions. So all blocks have as much to do, whatever taps
//          lie in the padding. The shares, and so the bits, depend on the sizes alone.
//          FLAT, for few maps C: part[z, k, (c, r, s)]; all taps at once, over all positions.
//          GROUPED: C counts the maps of one group, K in conv_dw too, in conv_dw_sum all.
// Threads: a block computes BM maps k by BN maps c of a share, a tile as in conv_tile.cuh. A sum of shares: one
//          thread, or for many shares 8, each every eighth share, and then one adds up the eight.
// Bytes:   dy and x from cache, once for each tap and BN or BM maps; 8 per part.
// Limits:  any window, stride, pad, dilation and N.
#include "conv_tile.cuh"

#define LINE (BK + 4)           // of shared memory: 16-byte reads down 8 rows meet 8 different banks
#define COPIES (BK / LANES)     // for a row
#define STEP (THREADS / COPIES) // rows at a time
#define YROWS ((BM + STEP - 1) / STEP)
#define XROWS ((BN + STEP - 1) / STEP)
static_assert(THREADS % COPIES == 0 && DEPTH % 4 == 0, "threads are a multiple of a row's copies, and read 4 at once");
static_assert(STAGES * LINE * (BM + BN) >= (GROUPS - 1) * GROUP * TN, "room to add up the groups");

// The outputs, out of `count`, that have tap r of their windows in the image.
struct Span {
    int first, size;
    __device__ __forceinline__ Span(int r, int stride, int pad, int step, int image, int count) {
        int start = pad - r * step, last = image - 1 + start; // p*stride is in start .. last
        first = start > 0 ? (start + stride - 1) / stride : 0;
        size = last < 0 ? 0 : max(0, min(count, last / stride + 1) - first);
    }
};
struct Outputs {
    Span down, across;
    __device__ __forceinline__ int shares(int N, int share) const {
        return ((count_t)down.size * across.size * N + share - 1) / share;
    }
};
#if FLAT // one set of shares, for all taps
#define OUTPUTS(tap) Outputs{Span(0 * (tap), 1, 0, 1, P, P), Span(0, 1, 0, 1, Q, Q)}
#else
#define OUTPUTS(tap) Outputs{Span((tap) / S, SY, PY, DY, H, P), Span((tap) % S, SX, PX, DX, W, Q)}
#endif

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

extern "C" __global__ void __launch_bounds__(THREADS, FITTING)
conv_dw(const float *__restrict__ x, const float *__restrict__ dy, float *__restrict__ part, int C, int H, int W, int K,
        int P, int Q, int N, int R, int S, int SY, int SX, int PY, int PX, int DY, int DX, int share, int z0) {
    __shared__ __align__(16) float room[STAGES * LINE * (BM + BN)];
    float *ys = room, *xs = room + STAGES * LINE * BM;
    int thread = threadIdx.x, j0 = blockIdx.x * BN, k0 = blockIdx.y * BM, taps = R * S, tap = 0, z = z0 + blockIdx.z;
    int maps = K;
#if GROUPED
    int ktiles = (K + BM - 1) / BM, group = blockIdx.y / ktiles;
    k0 = blockIdx.y % ktiles * BM, maps = gridDim.y / ktiles * K;
    x += group * C * ((count_t)H * W * N), dy += group * K * ((count_t)P * Q * N);
    part += group * K * (count_t)(FLAT ? C * taps : C);
#endif
#if !FLAT // the tap to which share z belongs: the lanes of a warp count the shares of 32 taps
    for (int lane = thread % 32;; tap += 32) {
        int count = tap + lane < taps ? OUTPUTS(tap + lane).shares(N, share) : 0, end = count;
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
    const Outputs out = OUTPUTS(tap);
    count_t plane = (count_t)H * W * N, total = (count_t)P * Q * N, end = (count_t)out.down.size * out.across.size * N;
    count_t begin = (count_t)z * share;
    end = min(end, begin + share);
    int steps = (end - begin + BK - 1) / BK, row_size = FLAT ? C * taps : C, columns = min(BN, row_size - j0);

    // This thread copies from position `at` of every BK on, in each STEP-th row.
    int row = thread / COPIES, v = thread % COPIES * LANES;
    count_t at = begin + v;
    int n = at % N, q = at / N % out.across.size, p = at / N / out.across.size + out.down.first;
    q += out.across.first;
    const float *yfrom = dy + (k0 + row) * total;
    float *yto = ys + row * LINE + v, *xto = xs + row * LINE + v;
    int rows_end = out.across.first + out.across.size;
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
            if (++q == rows_end) q = out.across.first, p++;
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

extern "C" __global__ void conv_dw_sum(const float *part, float *dw, int C, int H, int W, int K, int P, int Q, int N,
                                       int R, int S, int SY, int SX, int PY, int PX, int DY, int DX, int share,
                                       int z0, int z1) {
    __shared__ float of[256];
    int taps = R * S, tap = blockIdx.y, thread = threadIdx.y * blockDim.x + threadIdx.x, first = 0;
    for (int t = thread % 32; t < tap; t += 32) first += OUTPUTS(t).shares(N, share);
    for (int step = 16; step > 0; step /= 2) first += __shfl_xor_sync(0xffffffffu, first, step);
    int begin = max(first, z0), end = min(first + OUTPUTS(tap).shares(N, share), z1);
    count_t size = (count_t)K * C * (FLAT ? taps : 1), i = blockIdx.x * (count_t)blockDim.x + threadIdx.x;
    float sum = 0;
    if (i < size)
#pragma unroll 8
        for (int z = begin + threadIdx.y; z < end; z += blockDim.y) sum += part[(z - z0) * size + i];
    of[thread] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || i >= size) return;
    for (int t = 1; t < blockDim.y; t++) sum += of[t * blockDim.x + threadIdx.x];
    dw[FLAT ? i : i * taps + tap] += sum;
}
