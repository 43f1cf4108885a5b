// PReLU: y = x if x > 0 else a*x; dx = dy if x > 0 else a*dy; da = sum of dy*x over x <= 0.
//
// Order:   rows x[c] of M = H*W*N elements; a has SLOPES elements, one per row or one for all.
// Threads: one per LANES elements, a row of blocks per c. In bprop a block strides through its row and sums its
//          share of da into sums[c][block]; the last block of a slope to end adds up the shares.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0.
// Source:  He et al., "Delving deep into rectifiers", ICCV 2015, section 2.1, arXiv 1502.01852.
#include "minet.cuh"

extern "C" __global__ void prelu_fprop(const float *x, float *y, const float *a, int C, int H, int W, int N,
                                       float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float slope = a[c % SLOPES];
        FOR_EACH(i, M / LANES) {
            Samples value = ((const Samples *)(x + c * M))[i];
            EACH_LANE(l) value.of[l] = value.of[l] > 0 ? value.of[l] : slope * value.of[l];
            put(y + c * M + i * LANES, value, beta);
        }
    }
}

extern "C" __global__ void prelu_bprop(const float *x, const float *dy, float *dx, const float *a, float *da,
                                       float *sums, unsigned *came, int C, int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    int shares = gridDim.x * (C / SLOPES); // of one slope
    FOR_ROWS(c, C) {
        float slope = a[c % SLOPES], total = 0;
        FOR_EACH(i, M / LANES) {
            Samples value = ((const Samples *)(x + c * M))[i], delta = ((const Samples *)(dy + c * M))[i];
            EACH_LANE(l) {
                total += value.of[l] > 0 ? 0 : delta.of[l] * value.of[l];
                delta.of[l] *= value.of[l] > 0 ? 1 : slope;
            }
            if (dx) put(dx + c * M + i * LANES, delta, beta);
        }
        total = block_sum(total);
        if (threadIdx.x == 0) sums[c * gridDim.x + blockIdx.x] = total;
        if (!last_block(came + c % SLOPES, shares)) continue;
        total = 0;
        for (int i = threadIdx.x; i < shares; i += blockDim.x) total += sums[c % SLOPES * shares + i];
        total = block_sum(total);
        if (threadIdx.x == 0) da[c % SLOPES] += total;
    }
}
