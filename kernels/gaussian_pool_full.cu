// Gaussian pooling with a tilted Gaussian, which does not factorise: each tap (r, s) has a weight of its own.
//
//   y[j*C + c, p, q, n] = sum over r, s of w[r, s] * x[c, h, w, n],  weights of channel c, kernel j, place of (p, q)
//
// Order:   taps (r, s) row by row; dx adds windows (p, q) from the last to the first, then kernels. The tables are
//          [set][place down][place across][kind][r*S + s]; kinds are w and its derivatives by FULL parameters.
// Threads: one per LANES outputs (fprop) or inputs (dx); for the slopes a row of blocks per kernel and channel, whose
//          sums a second launch adds up. A thread makes the tables of one window, in double: far from the mean
//          numbers cancel.
// Bytes:   per x 4 read, per y 4 written for all kernels together; what windows share comes from cache.
// Source:  the bivariate normal density. Twin of minet/loops/gaussian_pool_full.py.
#include "gaussian_pool.cuh"

#define TAPS (R * S)
#define FULL 5 // parameters of a kernel: mean y, mean x, log sigma y, log sigma x, correlation
#define KIND (FULL + 1)
#define KERNEL (PLACES_Y * PLACES_X * KIND * TAPS) // numbers in the tables of one kernel

extern "C" __global__ void gaussian_pool_full_weights(const float *mean, const float *log_sigma,
                                                      const float *correlation, float *tables, int sets, int H, int W) {
    Places rows(REACH_Y, SY, PY, H), cols(REACH_X, SX, PX, W);
    FOR_ALL(i, (count_t)sets * PLACES_Y * PLACES_X) {
        int set = i / (PLACES_Y * PLACES_X), down = i / PLACES_X % PLACES_Y, across = i % PLACES_X;
        float *out = tables + (count_t)i * KIND * TAPS;
        int top = rows.window(down) * SY - PY, left = cols.window(across) * SX - PX;
        double rho = correlation[set], rest = 1 / (1 - rho * rho);
        double over_y = exp(-(double)log_sigma[2 * set]), over_x = exp(-(double)log_sigma[2 * set + 1]);
        double from_y = 0.5 * (R - 1) + mean[2 * set], from_x = 0.5 * (S - 1) + mean[2 * set + 1];
        double least = 0, total = 1, moment[FULL] = {};
        auto each = [&](auto take, bool all) { // the window's taps; those outside the image too, if they count
            for (int r = 0; r < R; r++)
                for (int s = 0; s < S; s++) {
                    int h = top + r * DY, w = left + s * DX;
                    bool inside = h >= 0 && h < H && w >= 0 && w < W;
                    double u = (r - from_y) * over_y, v = (s - from_x) * over_x;
                    if (inside || all) take(r * S + s, inside, u, v, (u * u - 2 * rho * u * v + v * v) * rest);
                }
        };
        auto slopes = [&](double u, double v, double square, double *by) {
            by[0] = (u - rho * v) * rest * over_y, by[1] = (v - rho * u) * rest * over_x;
            by[2] = u * (u - rho * v) * rest, by[3] = v * (v - rho * u) * rest;
            by[4] = (u * v - rho * square) * rest;
        };
        if (NORMALIZE != NONE) {
            least = INFINITY, total = 0;
            each([&](int, bool, double, double, double square) { least = fmin(least, square); }, !EXACT);
            each(
                [&](int, bool, double u, double v, double square) {
                    double share = exp(-0.5 * (square - least)), by[FULL];
                    slopes(u, v, square, by), total += share;
                    for (int k = 0; k < FULL; k++) moment[k] += share * by[k];
                },
                !EXACT);
            for (int k = 0; k < FULL; k++) moment[k] /= total;
        }
        each(
            [&](int tap, bool inside, double u, double v, double square) {
                double w = inside ? exp(-0.5 * (square - least)) / total : 0, by[FULL];
                if (NORMALIZE == L2) w = sqrt(w);
                w = w <= 1.17549435e-38f ? 0 : w; // as on the cpu
                out[tap] = (float)w;
                slopes(u, v, square, by);
                for (int k = 0; k < FULL; k++)
                    out[(k + 1) * TAPS + tap] = w == 0 ? 0 : (float)((NORMALIZE == L2 ? 0.5 : 1.0) * w * (by[k] - moment[k]));
            },
            true);
    }
}

extern "C" __global__ void gaussian_pool_full_fprop(const float *x, float *y, const float *tables, int shared_sets,
                                                    int C, int H, int W, int P, int Q, int N, float beta) {
    Places rows(REACH_Y, SY, PY, H), cols(REACH_X, SX, PX, W);
    int groups = N / LANES, parts = (KERNELS + AT_ONCE - 1) / AT_ONCE;
    FOR_ROWS(line, (count_t)C * parts * P) {
        int p = line % P, c = line / P % C, j0 = line / P / C * AT_ONCE, top = p * SY - PY;
        const float *table = tables + (count_t)((shared_sets ? 0 : c * KERNELS) + j0) * KERNEL, *plane = x + (count_t)c * H * W * N;
        int end = min(R, (H - top + DY - 1) / DY);
        FOR_EACH(i, (count_t)Q * groups) {
            int q = i / groups, n = i % groups * LANES, left = q * SX - PX, last = min(S, (W - left + DX - 1) / DX);
            const float *weights = table + (rows.of(p) * PLACES_X + cols.of(q)) * (KIND * TAPS);
            Samples sums[AT_ONCE] = {};
            for (int r = first_inside(top, DY); r < end; r++)
                for (int s = first_inside(left, DX); s < last; s++) {
                    Samples value = *(const Samples *)(plane + ((count_t)(top + r * DY) * W + left + s * DX) * N + n);
#pragma unroll
                    for (int j = 0; j < AT_ONCE; j++) {
                        float weight = j0 + j < KERNELS ? weights[(count_t)j * KERNEL + r * S + s] : 0;
                        EACH_LANE(l) sums[j].of[l] += weight * value.of[l];
                    }
                }
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++)
                if (j0 + j < KERNELS) put(y + ((((count_t)(j0 + j) * C + c) * P + p) * Q + q) * N + n, sums[j], beta);
        }
    }
}

extern "C" __global__ void gaussian_pool_full_dx(const float *dy, float *dx, const float *tables, int shared_sets,
                                                 int C, int H, int W, int P, int Q, int N, float beta) {
    Places rows(REACH_Y, SY, PY, H), cols(REACH_X, SX, PX, W);
    int groups = N / LANES;
    FOR_ROWS(line, (count_t)C * H) {
        int h = line % H + PY, c = line / H;
        const float *table = tables + (count_t)(shared_sets ? 0 : c * KERNELS) * KERNEL;
        FOR_EACH(i, (count_t)W * groups) {
            int w = i / groups + PX, n = i % groups * LANES;
            Samples sum = {};
            for (int r = DY == 1 ? h % SY : 0; r < R; r += DY == 1 ? SY : 1) {
                int p = (h - r * DY) / SY;
                if (h < r * DY || p >= P || p * SY != h - r * DY) continue;
                for (int s = DX == 1 ? w % SX : 0; s < S; s += DX == 1 ? SX : 1) {
                    int q = (w - s * DX) / SX;
                    if (w < s * DX || q >= Q || q * SX != w - s * DX) continue;
                    const float *weights = table + (rows.of(p) * PLACES_X + cols.of(q)) * (KIND * TAPS) + r * S + s;
                    for (int j = 0; j < KERNELS; j++) {
                        float weight = weights[(count_t)j * KERNEL];
                        Samples delta = *(const Samples *)(dy + ((((count_t)j * C + c) * P + p) * Q + q) * N + n);
                        EACH_LANE(l) sum.of[l] += weight * delta.of[l];
                    }
                }
            }
            put(dx + (line * W + i / groups) * N + n, sum, beta);
        }
    }
}

extern "C" __global__ void gaussian_pool_full_shares(const float *x, const float *dy, const float *tables, float *parts,
                                                     int shared_sets, int C, int H, int W, int P, int Q, int N) {
    Places rows(REACH_Y, SY, PY, H), cols(REACH_X, SX, PX, W);
    int groups = N / LANES;
    FOR_ROWS(of, (count_t)C * KERNELS) {
        int c = of % C, j = of / C, set = (shared_sets ? 0 : c * KERNELS) + j;
        const float *table = tables + (count_t)set * KERNEL, *plane = x + (count_t)c * H * W * N;
        const float *deltas = dy + of * P * Q * N;
        float totals[FULL] = {};
        FOR_EACH(i, (count_t)P * Q * groups) {
            int n = i % groups * LANES, q = i / groups % Q, p = i / groups / Q, top = p * SY - PY, left = q * SX - PX;
            const float *weights = table + (rows.of(p) * PLACES_X + cols.of(q)) * (KIND * TAPS);
            Samples sums[FULL] = {}, delta = *(const Samples *)(deltas + (i / groups) * N + n);
            int end = min(R, (H - top + DY - 1) / DY), last = min(S, (W - left + DX - 1) / DX);
            for (int r = first_inside(top, DY); r < end; r++)
                for (int s = first_inside(left, DX); s < last; s++) {
                    Samples value = *(const Samples *)(plane + ((count_t)(top + r * DY) * W + left + s * DX) * N + n);
#pragma unroll
                    for (int k = 0; k < FULL; k++)
                        EACH_LANE(l) sums[k].of[l] += weights[(k + 1) * TAPS + r * S + s] * value.of[l];
                }
#pragma unroll
            for (int k = 0; k < FULL; k++) EACH_LANE(l) totals[k] += delta.of[l] * sums[k].of[l];
        }
        int blocks = gridDim.x * (shared_sets ? C : 1), block = blockIdx.x + (shared_sets ? c * gridDim.x : 0);
#pragma unroll
        for (int k = 0; k < FULL; k++) {
            float total = block_sum(totals[k]);
            if (threadIdx.x == 0) parts[((count_t)set * FULL + k) * blocks + block] = total;
        }
    }
}

// A block per slope: the sum over `blocks` parts, added to the parameter's gradient unless null.
extern "C" __global__ void gaussian_pool_full_slopes(const float *parts, float *dmean, float *dlog_sigma,
                                                     float *dcorrelation, int blocks) {
    int set = blockIdx.x / FULL, k = blockIdx.x % FULL;
    float *to = k < 2 ? dmean : k < 4 ? dlog_sigma : dcorrelation, total = 0;
    if (!to) return;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) total += parts[(count_t)blockIdx.x * blocks + i];
    total = block_sum(total);
    if (threadIdx.x == 0) to[k < 4 ? set * 2 + k % 2 : set] += total;
}
