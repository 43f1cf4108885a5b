// PReLU: y = x if x > 0 else a*x; dx = dy if x > 0 else a*dy; da = sum of dy*x over x <= 0.
//
// Order:   rows x[c] of M = H*W*N elements; a has SLOPES elements, one per row or one for all.
// Threads: one per element, a row of blocks per c. In bprop a block strides through its row and sums its
//          share of da into sums[c][block]; a second launch (arithmetic.cu) adds up the shares.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0.
// Source:  He et al., "Delving deep into rectifiers", ICCV 2015, section 2.1, arXiv 1502.01852.
#include "minet.cuh"

extern "C" __global__ void prelu_fprop(const float *x, float *y, const float *a, int C, int H, int W, int N,
                                       float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float slope = a[c % SLOPES];
        FOR_EACH(m, M) {
            float value = x[c * M + m];
            put(y + c * M + m, value > 0 ? value : slope * value, beta);
        }
    }
}

extern "C" __global__ void prelu_bprop(const float *x, const float *dy, float *dx, const float *a, float *sums,
                                       int C, int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float slope = a[c % SLOPES], total = 0;
        FOR_EACH(m, M) {
            float value = x[c * M + m], delta = dy[c * M + m];
            if (dx) put(dx + c * M + m, value > 0 ? delta : slope * delta, beta);
            total += value > 0 ? 0 : delta * value;
        }
        total = block_sum(total);
        if (threadIdx.x == 0) sums[c * gridDim.x + blockIdx.x] = total;
    }
}
