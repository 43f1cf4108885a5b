// Gaussian pooling: a plane X of x becomes Y = Ay X Ax^T, each A a band matrix of 1-D Gaussian weights.
//
//   y[j*C + c, p, q, n] = sum over r, s of wy[p, r] * x[c, h, w, n] * wx[q, s],  weights of channel c, kernel j,
//   h = p*SY - PY + r, w = q*SX - PX + s;  e = sum over q of wx * dy,  dx = sum over j, p of wy * e,
//   dmean_y = sum of e * (wy' X), dmean_x = sum of e' * (wy X), where ' is the weights' derivative; log_sigma alike
//
// Order:   x (C, H, W, N); tables of weights as in gaussian_pool.cuh. Sums go row by row.
// Threads: one per LANES neighbours along n of a column of outputs (fprop) or inputs (bprop) of a channel; it
//          marches down a band of rows. fprop: each row of x is weighted across once and added to all windows
//          that hold it, with DEEP * KERNELS sums in registers. bprop: a thread holds R rows of its column of
//          x and of dx; each dx has one owner. Each block builds its tables in shared memory, and its own
//          part of the parameters' sums; a second launch adds up the parts.
// Bytes:   fprop reads 4 per x and writes 4 per y; bprop reads 4 per x and dy and writes 4 per dx, whatever
//          KERNELS; what columns share comes from cache.
// Limits:  any window; rows and sums stay in registers up to 15 x 15. Tables too large for shared memory
//          (APART) are built in global memory by a launch of their own.
// Source:  a diagonal Gaussian over a rectangle factorises; Zeiler & Fergus, arXiv 1207.0151, for the form "l2".
#include "gaussian_pool.cuh"

extern "C" __global__ void gaussian_pool_weights(const float *mean, const float *log_sigma, float *tables, int sets,
                                                 int H, int W) {
    make_tables<3>(tables, mean, log_sigma, sets, H, W, blockIdx.x * blockDim.x + threadIdx.x,
                   gridDim.x * blockDim.x);
}

constexpr int ROWS_AT_ONCE = SY <= 4 ? SY : 1;
constexpr bool FEW = KERNELS * S <= 24; // whether a thread keeps the weights across in registers

extern "C" __global__ void __launch_bounds__(256, RESIDENT)
gaussian_pool_fprop(const float *x, float *y, const float *mean, const float *log_sigma, const float *tables,
                    int shared_sets, int C, int H, int W, int P, int Q, int N, float beta) {
    int tiles = gridDim.x / C, tile = blockIdx.x % tiles, c = blockIdx.x / tiles;
    TABLES(1, shared_sets ? 0 : c * KERNELS)
    int across = (N / LANES + blockDim.x - 1) / blockDim.x;
    int n = (tile % across * blockDim.x + threadIdx.x) * LANES, q = tile / across * blockDim.y + threadIdx.y;
    if (n >= N || q >= Q) return;
    int begin = part(blockIdx.y, gridDim.y, P), end = part(blockIdx.y + 1, gridDim.y, P);
    Places rows(R, SY, PY, H), cols(S, SX, PX, W);
    const float *plane = x + (count_t)c * H * W * N, *col = table + COLS + cols.of(q) * COL;

    unsigned at[S]; // in bytes; weights outside the image are 0, so any pixel of the window will do there
#pragma unroll
    for (int s = 0; s < S; s++) at[s] = 4u * (within(q * SX - PX + s, W) * N + n);
    float kept[FEW ? KERNELS : 1][S];
    if (FEW)
#pragma unroll
        for (int j = 0; j < KERNELS; j++)
#pragma unroll
            for (int s = 0; s < S; s++) kept[j][s] = col[j * TABLE + s];
    Samples sums[KERNELS][DEEP] = {}; // for the windows p - k, where p begins here
#pragma unroll 1
    for (int p = max(begin, (PY + SY - min(R, SY)) / SY); p < end + DEEP - 1; p++) { // from rows in the image
#pragma unroll ROWS_AT_ONCE
        for (int d = 0; d < min(R, SY); d++) {
            Samples across_x[KERNELS] = {};
            const float *line = plane + (count_t)within(p * SY - PY + d, H) * W * N;
            if (DEEP > 2 && KERNELS * DEEP <= 16) // of the next rows, the columns that no neighbour asks for
#pragma unroll
                for (int i = 0; i < SX && S / 2 + i < S; i++)
                    fetch(past(plane + (count_t)within((p + 1) * SY - PY + d, H) * W * N, at[S / 2 + i]));
#pragma unroll
            for (int s = 0; s < S; s++) {
                Samples value = *(const Samples *)past(line, at[s]);
#pragma unroll
                for (int j = 0; j < KERNELS; j++) {
                    float weight = FEW ? kept[FEW ? j : 0][s] : col[j * TABLE + s];
                    EACH_LANE(l) across_x[j].of[l] += weight * value.of[l];
                }
            }
#pragma unroll
            for (int k = 0; k < DEEP; k++)
                if (k * SY + d < R)
#pragma unroll
                    for (int j = 0; j < KERNELS; j++) {
                        float weight = table[rows.of(within(p - k, P)) * ROW + j * TABLE + k * SY + d];
                        EACH_LANE(l) sums[j][k].of[l] += weight * across_x[j].of[l];
                    }
        }
        int done = p - (DEEP - 1);
#pragma unroll
        for (int j = 0; j < KERNELS; j++) {
            if (done >= begin) put(y + ((((count_t)j * C + c) * P + done) * Q + q) * N + n, sums[j][DEEP - 1], beta);
            push(sums[j], Samples{});
        }
    }
}

#define TALL (R > SY ? R : SY) // rows of dx under way
#define NEW (SY < R ? SY : R)  // rows of x in a window but not in the one before

// Reads weights four at a time, broadcast to the warp.
template <int COUNT> __device__ __forceinline__ void load(float (&to)[COUNT], const float *row) {
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
        float4 w = *(const float4 *)(row + i);
        to[i] = w.x, to[i + 1] = w.y, to[i + 2] = w.z, to[i + 3] = w.w;
    }
}

extern "C" __global__ void __launch_bounds__(256, RESIDENT)
gaussian_pool_bprop(const float *x, const float *dy, float *dx, const float *mean, const float *log_sigma,
                    const float *tables, float *parts, int shared_sets, int C, int H, int W, int P, int Q, int N,
                    float beta) {
    int tiles = gridDim.x / C, tile = blockIdx.x % tiles, c = blockIdx.x / tiles, set = shared_sets ? 0 : c * KERNELS;
    TABLES(LEARN ? 3 : 1, set)
    constexpr int SLOPES = LEARN ? 3 : 1;
    int across = (N / LANES + blockDim.x - 1) / blockDim.x;
    int n = (tile % across * blockDim.x + threadIdx.x) * LANES, w = tile / across * blockDim.y + threadIdx.y;
    bool mine = w < W && n < N;
    int top = part(blockIdx.y, gridDim.y, H), bottom = part(blockIdx.y + 1, gridDim.y, H);
    Places rows(R, SY, PY, H), cols(S, SX, PX, W);
    unsigned column = 4u * (w * N + n);

    // Bands share windows: each adds to the parameters' sums only for windows before the next band's first.
    int p = covering(top, R, SY, PY, P).first, stop = min(P, (bottom - 1 + PY) / SY + 1);
    int counted = bottom == H ? P : covering(bottom, R, SY, PY, P).first;

    // The outputs q = last - i hold this column, at tap (w + PX) % SX + i * SX. Outputs that do not exist get
    // weight 0, so any existing one will do for them, as in fprop.
    Range reached = covering(w, S, SX, PX, Q);
    bool held = mine && reached.first < reached.end;
    int last = (w + PX) / SX, lowest = (w + PX) % SX, at[BROAD];
    unsigned to[BROAD];
#pragma unroll
    for (int i = 0; i < BROAD; i++) {
        int q = last - i;
        bool there = held && q >= reached.first && q < reached.end;
        at[i] = there ? COLS + cols.of(q) * COL + lowest + i * SX : NOWHERE;
        to[i] = 4u * (min(max(q, reached.first), reached.end - 1) * N + n);
    }
    auto delta_of = [&](int p, int j, int i) {
        const float *line = dy + (((count_t)j * C + c) * P + min(p, P - 1)) * Q * N;
        return lanes(past(line, to[i]), held, 0.0f);
    };
    auto pixel = [&](int h) {
        return lanes(past(x + ((count_t)c * H + within(h, H)) * W * N, column), held, 0.0f);
    };
    auto finish = [&](int h, Samples value) {
        if (mine && dx && h >= top && h < bottom) put(past(dx + ((count_t)c * H + h) * W * N, column), value, beta);
    };

    Samples image[R], delta[TALL] = {}, ahead[BROAD];
    float slopes[KERNELS][4] = {};
    int base = p * SY - PY; // the first row of window p
    for (int h = top; h < min(base, bottom); h++) finish(h, Samples{}); // rows between windows
    if (LEARN)
#pragma unroll
        for (int r = 0; r < R; r++) image[r] = pixel(base + r);
#pragma unroll
    for (int i = 0; i < BROAD; i++) ahead[i] = delta_of(p, 0, i);
#pragma unroll 1
    for (; p < stop; p++) {
        Samples fresh[NEW]; // the next window's new rows, loading while this one is computed
        const float *row = table + rows.of(p) * ROW;
#pragma unroll
        for (int j = 0; j < KERNELS; j++) {
            if (LEARN && j == (LANES > 1 ? KERNELS - 1 : 0))
#pragma unroll
                for (int i = 0; i < NEW; i++) fresh[i] = pixel(base + SY + R - NEW + i);
            Samples e[SLOPES] = {}, v[SLOPES] = {};
#pragma unroll
            for (int i = 0; i < BROAD; i++) {
#pragma unroll
                for (int k = 0; k < SLOPES; k++) {
                    // Volatile: keeping the weights of all kernels takes registers that more threads need.
                    float weight = *(volatile const float *)(table + at[i] + j * TABLE + k * PADDED(S));
                    EACH_LANE(l) e[k].of[l] += weight * ahead[i].of[l];
                }
                ahead[i] = j + 1 < KERNELS ? delta_of(p, j + 1, i) : delta_of(p + 1, 0, i);
            }
#pragma unroll
            for (int k = 0; k < SLOPES; k++) {
                float weight[PADDED(R)];
                load(weight, row + j * TABLE + k * PADDED(R));
#pragma unroll
                for (int r = 0; r < R; r++)
                    EACH_LANE(l) {
                        if (k == 0) delta[r].of[l] += weight[r] * e[0].of[l];
                        if (LEARN) v[k].of[l] += weight[r] * image[r].of[l];
                    }
            }
            if (LEARN && p < counted)
                EACH_LANE(l) {
                    slopes[j][0] += e[0].of[l] * v[1].of[l], slopes[j][1] += e[1].of[l] * v[0].of[l];
                    slopes[j][2] += e[0].of[l] * v[2].of[l], slopes[j][3] += e[2].of[l] * v[0].of[l];
                }
        }
#pragma unroll
        for (int i = 0; i < SY; i++) finish(base + i, delta[i]);
#pragma unroll
        for (int i = 0; i < TALL; i++) delta[i] = i + SY < TALL ? delta[i + SY] : Samples{};
        base += SY;
        if (LEARN)
#pragma unroll
            for (int r = 0; r < R; r++) image[r] = r + SY < R ? image[r + SY] : fresh[r - (R - NEW)];
    }
#pragma unroll
    for (int i = 0; i < TALL; i++) finish(base + i, delta[i]);
    for (int h = max(base + TALL, top); h < bottom; h++) finish(h, Samples{}); // rows that no window reaches

    if (LEARN) {
        int blocks = tiles * gridDim.y, block = blockIdx.y * tiles + tile;
        if (shared_sets) block += c * blocks, blocks *= C;
#pragma unroll
        for (int j = 0; j < KERNELS; j++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                float total = block_sum(slopes[j][k]);
                if (threadIdx.x == 0 && threadIdx.y == 0) parts[((count_t)(set + j) * 4 + k) * blocks + block] = total;
            }
    }
}

extern "C" __global__ void gaussian_pool_slopes(const float *parts, float *dmean, float *dlog_sigma, int blocks) {
    add_shares(parts, dmean, dlog_sigma, blocks);
}
