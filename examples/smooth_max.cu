// SmoothMax: y = log(mean of exp(a * x)) / a over each window; dx = dy * exp(a * (x - level)) with
// level = log(sum of exp(a * x)) / a; da = sum of dy * slope with slope = dy/da.
//
// Order:   the taps of a window row by row; in bprop windows (p, q) alike.
// Threads: one per output in fprop, one per input in bprop, a row of blocks per (c, p) or (c, h). bprop
//          gathers: each dx has one owner. da: a block sums its share of a channel into sums[c][block];
//          sum_rows adds up the shares in a fixed order.
// Bytes:   per x and y: fprop 4 and 12, bprop 8 and 16; what windows share comes from cache.
// Source:  Pinheiro and Collobert, CVPR 2015, arXiv 1411.6228, section 3.1.
#include "minet.cuh"
#include "window.cuh"

extern "C" __global__ void smooth_max_fprop(const float *x, float *y, float *level, float *slope,
                                            const float *a, int C, int H, int W, int P, int Q, int N,
                                            float beta) {
    FOR_ROWS(row, (count_t)C * P) {
        const float *plane = x + row / P * H * W * N;
        float sharpness = a[row / P];
        Range rows = span(row % P, R, SY, PY, H);
        FOR_EACH(i, (count_t)Q * N) {
            int n = i % N;
            Range columns = span(i / N, S, SX, PX, W);
            float top = -INFINITY, total = 0, moment = 0;
            for (int h = rows.first; h < rows.end; h++)
                for (int w = columns.first; w < columns.end; w++)
                    top = fmaxf(top, plane[((count_t)h * W + w) * N + n]);
            for (int h = rows.first; h < rows.end; h++)
                for (int w = columns.first; w < columns.end; w++) {
                    float below = plane[((count_t)h * W + w) * N + n] - top;
                    float power = expf(sharpness * below);
                    total += power;
                    moment += power * below;
                }
            float pixels = (float)((rows.end - rows.first) * (columns.end - columns.first));
            float above = logf(total / pixels) / sharpness;
            level[row * Q * N + i] = top + logf(total) / sharpness;
            slope[row * Q * N + i] = (moment / total - above) / sharpness;
            put(y + row * Q * N + i, top + above, beta);
        }
    }
}

extern "C" __global__ void smooth_max_bprop(const float *x, const float *dy, float *dx, const float *level,
                                            const float *a, int C, int H, int W, int P, int Q, int N,
                                            float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        count_t first = row / H * P * Q * N; // of this channel's outputs
        float sharpness = a[row / H];
        Range rows = covering(row % H, R, SY, PY, P);
        FOR_EACH(i, (count_t)W * N) {
            int n = i % N;
            Range columns = covering(i / N, S, SX, PX, Q);
            float value = x[row * W * N + i], total = 0;
            for (int p = rows.first; p < rows.end; p++)
                for (int q = columns.first; q < columns.end; q++) {
                    count_t at = first + ((count_t)p * Q + q) * N + n;
                    total += dy[at] * expf(sharpness * (value - level[at]));
                }
            put(dx + row * W * N + i, total, beta);
        }
    }
}

extern "C" __global__ void smooth_max_da(const float *dy, const float *slope, float *sums, int C, int P,
                                         int Q, int N) {
    count_t M = (count_t)P * Q * N;
    FOR_ROWS(c, C) {
        float total = 0;
        FOR_EACH(m, M) total += dy[c * M + m] * slope[c * M + m];
        total = block_sum(total);
        if (threadIdx.x == 0) sums[c * gridDim.x + blockIdx.x] = total;
    }
}
