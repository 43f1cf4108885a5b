// Generalised-mean pooling: y[c,p,q,n] = (mean of a^k over window (p, q))^(1/k), a = max(x[c,h,w,n], LEAST).
//
//   k = power[c], b = a / top, top = the window's maximum;  dx = sum over windows of dy * (a / y)^(k-1) / pixels
//   dk = sum of dy * slope, slope = y / k * (sum of b^k log b / sum of b^k - log(y / top))
//
// Order:   a window's pixels row by row, twice: their maximum, then their powers. dx: windows in order, p then q.
// Threads: one for each y, and one for each dx, which gathers. The slopes: each block strides through its channel
//          and sums its share into sums[c][block]; a second launch, sum_rows, adds up the shares in order.
// Bytes:   3x3 stride 2, for each x: 4 read in fprop, 3 written with mean and slope; 4 read and 4 written in
//          bprop, and 4 read of dy, mean and slope. Logarithms and powers take longer.
// Source:  Radenovic, Tolias, Chum, arXiv 1711.02512.
#include "minet.cuh"
#include "window.cuh"

__device__ __forceinline__ float at_least(float x) { return x < LEAST ? LEAST : x; } // NaN stays NaN

extern "C" __global__ void gem_pool_fprop(const float *x, float *y, float *mean, float *slope, const float *power,
                                          int C, int H, int W, int P, int Q, int N, float beta) {
    FOR_ROWS(row, (count_t)C * P) {
        count_t c = row / P;
        Range rows = span(row % P, R, SY, PY, H);
        const float *plane = x + c * H * W * N;
        float k = power[c];
        FOR_EACH(i, (count_t)Q * N) {
            int n = i % N;
            Range cols = span(i / N, S, SX, PX, W);
            float top = LEAST, total = 0, moment = 0;
            for (int h = rows.first; h < rows.end; h++)
                for (int w = cols.first; w < cols.end; w++) top = fmaxf(top, plane[((count_t)h * W + w) * N + n]);
            for (int h = rows.first; h < rows.end; h++)
                for (int w = cols.first; w < cols.end; w++) {
                    float log = logf(at_least(plane[((count_t)h * W + w) * N + n]) / top), a = expf(k * log);
                    total += a, moment += a * log;
                }
            float level = logf(total / ((rows.end - rows.first) * (cols.end - cols.first))) / k;
            float value = top * expf(level);
            count_t at = row * Q * N + i;
            mean[at] = value, slope[at] = value / k * (moment / total - level);
            put(y + at, value, beta);
        }
    }
}

extern "C" __global__ void gem_pool_bprop(const float *x, const float *dy, float *dx, const float *mean,
                                          const float *power, int C, int H, int W, int P, int Q, int N, float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        count_t c = row / H;
        Range rows = covering(row % H, R, SY, PY, P);
        float k = power[c] - 1;
        FOR_EACH(i, (count_t)W * N) {
            int n = i % N;
            Range cols = covering(i / N, S, SX, PX, Q);
            float a = x[row * W * N + i], total = 0;
            for (int p = rows.first; p < rows.end; p++)
                for (int q = cols.first; q < cols.end; q++) {
                    Range high = span(p, R, SY, PY, H), wide = span(q, S, SX, PX, W);
                    count_t at = ((c * P + p) * Q + q) * N + n;
                    float pixels = (high.end - high.first) * (wide.end - wide.first);
                    total += dy[at] / pixels * powf(at_least(a) / mean[at], k);
                }
            put(dx + row * W * N + i, a <= LEAST ? 0 : total, beta);
        }
    }
}

extern "C" __global__ void gem_pool_slopes(const float *dy, const float *slope, float *sums, int C, int P, int Q,
                                           int N) {
    FOR_ROWS(c, C) {
        count_t M = (count_t)P * Q * N;
        float total = 0;
        FOR_EACH(i, M) total += dy[c * M + i] * slope[c * M + i];
        total = block_sum(total);
        if (threadIdx.x == 0) sums[c * gridDim.x + blockIdx.x] = total;
    }
}
