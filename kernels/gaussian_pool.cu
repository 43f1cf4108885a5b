// Gaussian pooling: a plane X of x becomes Y = Ay X Ax^T, each A a band matrix of 1-D Gaussian weights.
//
//   y[j*C + c, p, q, n] = sum over r, s of wy[p, r] * x[c, h, w, n] * wx[q, s],  weights of channel c, kernel j,
//   h = p*SY - PY + r, w = q*SX - PX + s;  e = sum over q of wx * dy,  dx = sum over j, p of wy * e,
//   dmean_y = sum of e * (wy' X), dmean_x = sum of e' * (wy X), where ' is the weights' derivative; log_sigma alike
//
// Order:   x (C, H, W, N); tables [set][output][w, dw/dmean, dw/dlog_sigma][tap], a set for each channel (or one
//          for all) and kernel, taps filled up with zeros to a multiple of 4. `weights` makes them, a softmax for
//          each output over the taps inside the image: that makes the edge exact, and nothing else knows of it.
// Threads: a warp along n, a block for TILE columns of outputs (fprop) or inputs (bprop) of a channel; it marches
//          down the rows. fprop: each row of x goes to shared memory once, for all kernels; a thread takes the
//          horizontal sums and adds them to the outputs under way, of which it holds DEEP * KERNELS in registers.
//          bprop: each row of dy goes to shared memory once; a thread holds R rows of its column of x and of dx.
//          dx has one owner, and each block its own part of the parameters' sums, which a second launch adds up.
// Bytes:   fprop reads 4 for each x and writes 4 for each y; bprop reads 4 for each x and dy and writes 4 for each
//          dx, whatever KERNELS; what neighbouring blocks share (S - SX columns) comes from L2.
// Limits:  windows up to some 300 pixels wide, by shared memory; rows and sums stay in registers up to 15 x 15.
// Source:  a diagonal Gaussian over a rectangle factorises; Zeiler & Fergus, arXiv 1207.0151, for the form "l2".
#include "minet.cuh"
#include "window.cuh"

#define PADDED(taps) (((taps) + 3) / 4 * 4)
#define SUM 0
#define L2 1
#define NONE 2

// The weights of one output along one axis, and their slopes: three rows of PADDED(taps). Moments are taken about
// the largest weight's tap, where nothing cancels: d^2 - E[d^2] = 2 d0 (t - E[t]) + t^2 - E[t^2] with d = d0 + t.
__device__ __forceinline__ void weigh(float *out, float mean, float log_sigma, int taps, int first, int size) {
    float precision = expf(-2 * log_sigma), centre = 0.5f * (taps - 1) + mean;
    int begin = EXACT ? max(0, -first) : 0, end = EXACT ? min(taps, size - first) : taps;
    float nearest = NORMALIZE == NONE ? 0 : min(max(rintf(centre), (float)begin), end - 1.0f), d0 = nearest - centre;
    float total = 0, moment1 = 0, moment2 = 0, scale = 1;
    // However far the mean, one exponential of a row is 1.
    auto share = [&](int i) {
        float t = i - nearest, most = NORMALIZE == NONE ? 0 : d0 * d0;
        return expf(-0.5f * precision * ((d0 + t) * (d0 + t) - most));
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
        if (i >= begin && i < end && i + first >= 0 && i + first < size) w = share(i) * scale;
        if (NORMALIZE == L2) w = sqrtf(w);
        w = w > 1.17549435e-38f ? w : 0; // as on the cpu, which is slow at smaller numbers
        float slope = (NORMALIZE == L2 ? 0.5f : 1.0f) * precision * w;
        out[i] = w;
        out[PADDED(taps) + i] = slope * (NORMALIZE == NONE ? t + d0 : t - moment1);
        out[2 * PADDED(taps) + i] =
            slope * (NORMALIZE == NONE ? (t + d0) * (t + d0) : 2 * d0 * (t - moment1) + (t * t - moment2));
    }
}

extern "C" __global__ void gaussian_pool_weights(const float *mean, const float *log_sigma, float *rows, float *cols,
                                                 int sets, int H, int W, int P, int Q) {
    FOR_EACH(i, (count_t)sets * (P + Q)) {
        int set = i / (P + Q), p = i % (P + Q), q = p - P;
        if (p < P)
            weigh(rows + ((count_t)set * P + p) * 3 * PADDED(R), mean[2 * set], log_sigma[2 * set], R, p * SY - PY, H);
        else
            weigh(cols + ((count_t)set * Q + q) * 3 * PADDED(S), mean[2 * set + 1], log_sigma[2 * set + 1], S,
                  q * SX - PX, W);
    }
}

// `taps` weights of a table's row, four at a time: a broadcast to the warp.
__device__ __forceinline__ void load(float *to, const float *row, int taps) {
#pragma unroll
    for (int i = 0; i < taps; i += 4) {
        float4 w = __ldg((const float4 *)(row + i));
        to[i] = w.x, to[i + 1] = w.y, to[i + 2] = w.z, to[i + 3] = w.w;
    }
}

#define DEEP ((R + SY - 1) / SY)         // windows that hold one row
#define COLUMNS ((TILE - 1) * SX + S)    // of x, for TILE outputs
#define LOADS ((COLUMNS + TILE - 1) / TILE)

extern "C" __global__ void __launch_bounds__(32 * TILE, 1)
gaussian_pool_fprop(const float *x, float *y, const float *rows, const float *cols, int shared_sets, int bands,
                    int C, int H, int W, int P, int Q, int N, float beta) {
    __shared__ float tile[2][COLUMNS][32];
    int lane = threadIdx.x, across = (N + 31) / 32, n = blockIdx.x % across * 32 + lane, c = blockIdx.y;
    int q0 = blockIdx.x / across * TILE, q = q0 + threadIdx.y, w0 = q0 * SX - PX;
    int p = (int)((long long)P * blockIdx.z / bands), stop = (int)((long long)P * (blockIdx.z + 1) / bands);
    int set0 = shared_sets ? 0 : c * KERNELS;
    const float *plane = x + (count_t)c * H * W * N;

    float across_w[KERNELS][PADDED(S)], sum[KERNELS][DEEP], next[LOADS];
#pragma unroll
    for (int j = 0; j < KERNELS; j++) {
        load(across_w[j], cols + ((count_t)(set0 + j) * Q + min(q, Q - 1)) * 3 * PADDED(S), PADDED(S));
#pragma unroll
        for (int a = 0; a < DEEP; a++) sum[j][a] = 0;
    }
    auto fetch = [&](int h) {
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            int column = i * TILE + threadIdx.y, w = w0 + column;
            bool there = column < COLUMNS && w >= 0 && w < W && n < N && h < H;
            next[i] = there ? plane[((count_t)h * W + w) * N + n] : 0;
        }
    };
    auto store = [&](int buffer) {
#pragma unroll
        for (int i = 0; i < LOADS; i++)
            if (i * TILE + threadIdx.y < COLUMNS) tile[buffer][i * TILE + threadIdx.y][lane] = next[i];
    };
    int h = max(p * SY - PY, 0), buffer = 0;
    fetch(h), store(0);
    __syncthreads();
    while (p < stop) { // p: the first output under way; h: the row in shared memory
        // The next row that any window needs, while this one is worked on.
        int done = p;
        while (done < stop && (h - done * SY + PY >= R - 1 || h == H - 1)) done++;
        int following = max(h + 1, done * SY - PY);
        fetch(following);
        float u[KERNELS];
#pragma unroll
        for (int j = 0; j < KERNELS; j++) u[j] = 0;
#pragma unroll
        for (int s = 0; s < S; s++) {
            float value = tile[buffer][threadIdx.y * SX + s][lane];
#pragma unroll
            for (int j = 0; j < KERNELS; j++) u[j] += across_w[j][s] * value;
        }
        int r = h - p * SY + PY;
#pragma unroll
        for (int a = 0; a < DEEP; a++)
            if (r - a * SY >= 0 && p + a < stop)
#pragma unroll
                for (int j = 0; j < KERNELS; j++)
                    sum[j][a] += __ldg(rows + ((count_t)(set0 + j) * P + p + a) * 3 * PADDED(R) + r - a * SY) * u[j];
        for (; p < done; p++)
#pragma unroll
            for (int j = 0; j < KERNELS; j++) {
                if (q < Q && n < N) put(y + ((((count_t)j * C + c) * P + p) * Q + q) * N + n, sum[j][0], beta);
#pragma unroll
                for (int a = 0; a < DEEP - 1; a++) sum[j][a] = sum[j][a + 1];
                sum[j][DEEP - 1] = 0;
            }
        h = following, buffer ^= 1;
        store(buffer);
        __syncthreads();
    }
}

#define TALL (R > SY ? R : SY)             // rows of dx under way
#define STEP (SY < R ? SY : R)             // rows of x that a window has and the one before has not
#define TAPS ((S + SX - 1) / SX)           // outputs that a column may reach
#define REACH ((TILE + S - 2) / SX + 2)    // outputs that TILE columns may reach
#define FETCHES ((REACH + TILE - 1) / TILE)
#define SLOPES (LEARN ? 3 : 1)             // rows of a table that are needed

// Blocks on a multiprocessor: more of them hide memory's latency, as far as registers go without spilling.
#define RESIDENT (TILE == 8 ? (R <= 11 ? 2 : 1) : (KERNELS == 1 && R <= 7 ? 2 : 1))

extern "C" __global__ void __launch_bounds__(32 * TILE, RESIDENT)
gaussian_pool_bprop(const float *x, const float *dy, float *dx, const float *rows, const float *cols, float *sums,
                    int shared_sets, int bands, int C, int H, int W, int P, int Q, int N, float beta) {
    __shared__ float tile[2][REACH][32];
    int lane = threadIdx.x, across = (N + 31) / 32, n = blockIdx.x % across * 32 + lane, c = blockIdx.y;
    int w0 = blockIdx.x / across * TILE, w = w0 + threadIdx.y;
    int top = (int)((long long)H * blockIdx.z / bands), bottom = (int)((long long)H * (blockIdx.z + 1) / bands);
    int set0 = shared_sets ? 0 : c * KERNELS;
    bool mine = w < W && n < N;
    Range reached = covering(w, S, SX, PX, Q);
    int q0 = covering(w0, S, SX, PX, Q).first;
    count_t plane = (count_t)c * H * W * N, column = plane + (count_t)w * N + n;

    // Bands share windows: each adds to the parameters' sums for those that no later band begins with.
    int p = covering(top, R, SY, PY, P).first, stop = min(P, (bottom - 1 + PY) / SY + 1);
    int counted = bottom == H ? P : covering(bottom, R, SY, PY, P).first;

    float image[R], delta[TALL], slope[KERNELS][4], next[FETCHES], weight[SLOPES][TAPS];
#pragma unroll
    for (int i = 0; i < TALL; i++) delta[i] = 0;
#pragma unroll
    for (int j = 0; j < KERNELS; j++)
#pragma unroll
        for (int k = 0; k < 4; k++) slope[j][k] = 0;
    auto fetch = [&](int p, int j) {
#pragma unroll
        for (int i = 0; i < FETCHES; i++) {
            int at = i * TILE + threadIdx.y, q = q0 + at;
            bool there = at < REACH && q < Q && n < N && p < stop;
            next[i] = there ? dy[((((count_t)j * C + c) * P + p) * Q + q) * N + n] : 0;
        }
    };
    auto store = [&](int buffer) {
#pragma unroll
        for (int i = 0; i < FETCHES; i++)
            if (i * TILE + threadIdx.y < REACH) tile[buffer][i * TILE + threadIdx.y][lane] = next[i];
    };
    // Those of the outputs that this column reaches. Not by __ldg: the compiler would keep them for all kernels at
    // once, in registers that more threads need to hide memory's latency.
    auto weigh_columns = [&](int j) {
#pragma unroll
        for (int i = 0; i < TAPS; i++) {
            int q = reached.first + i, s = w - q * SX + PX;
            const float *row = cols + ((count_t)(set0 + j) * Q + q) * 3 * PADDED(S) + s;
#pragma unroll
            for (int k = 0; k < SLOPES; k++) weight[k][i] = mine && q < reached.end ? row[k * PADDED(S)] : 0;
        }
    };
    auto pixel = [&](int h) { return mine && h >= 0 && h < H ? x[column + (count_t)h * W * N] : 0.0f; };
    auto finish = [&](int h, float value) {
        if (mine && dx && h >= top && h < bottom) put(dx + column + (count_t)h * W * N, value, beta);
    };

    int base = p * SY - PY, buffer = 0; // the first row of window p
    for (int h = top; h < min(base, bottom); h++) finish(h, 0); // rows between windows
    if (LEARN)
#pragma unroll
        for (int r = 0; r < R; r++) image[r] = pixel(base + r);
    if (KERNELS == 1) weigh_columns(0);
    fetch(p, 0), store(0);
    __syncthreads();
    for (; p < stop; p++) {
        float ahead[STEP]; // the next window's new rows, under way while this one is worked on
        if (LEARN)
#pragma unroll
            for (int i = 0; i < STEP; i++) ahead[i] = pixel(base + SY + R - STEP + i);
#pragma unroll
        for (int j = 0; j < KERNELS; j++) {
            fetch(j + 1 < KERNELS ? p : p + 1, j + 1 < KERNELS ? j + 1 : 0);
            if (KERNELS > 1) weigh_columns(j);
            float e[3] = {0, 0, 0}, v[3] = {0, 0, 0}, w_row[PADDED(R)];
#pragma unroll
            for (int i = 0; i < TAPS; i++) {
                float value = tile[buffer][min(reached.first - q0 + i, REACH - 1)][lane];
#pragma unroll
                for (int k = 0; k < SLOPES; k++) e[k] += weight[k][i] * value;
            }
#pragma unroll
            for (int k = 0; k < SLOPES; k++) {
                load(w_row, rows + (((count_t)(set0 + j) * P + p) * 3 + k) * PADDED(R), PADDED(R));
#pragma unroll
                for (int r = 0; r < R; r++) {
                    if (k == 0) delta[r] += w_row[r] * e[0];
                    if (LEARN) v[k] += w_row[r] * image[r];
                }
            }
            if (p < counted) {
                slope[j][0] += e[0] * v[1], slope[j][1] += e[1] * v[0];
                slope[j][2] += e[0] * v[2], slope[j][3] += e[2] * v[0];
            }
            buffer ^= 1;
            store(buffer);
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < SY; i++) finish(base + i, delta[i]);
#pragma unroll
        for (int i = 0; i < TALL; i++) delta[i] = i + SY < TALL ? delta[i + SY] : 0;
        base += SY;
        if (LEARN)
#pragma unroll
            for (int r = 0; r < R; r++) image[r] = r + SY < R ? image[r + SY] : ahead[r - (R - STEP)];
    }
#pragma unroll
    for (int i = 0; i < TALL; i++) finish(base + i, delta[i]);
    for (int h = max(base + TALL, top); h < bottom; h++) finish(h, 0); // rows that no window reaches

    if (LEARN) {
        int blocks = gridDim.x * bands, block = blockIdx.z * gridDim.x + blockIdx.x;
        int sets = shared_sets ? 1 : C, width = shared_sets ? blocks * C : blocks;
        if (shared_sets) block += c * blocks;
#pragma unroll
        for (int j = 0; j < KERNELS; j++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                float total = block_sum(slope[j][k]);
                int row = k / 2 * sets * KERNELS * 2 + (set0 + j) * 2 + k % 2;
                if (threadIdx.x == 0 && threadIdx.y == 0) sums[(count_t)row * width + block] = total;
            }
    }
}
