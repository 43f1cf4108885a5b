// MyLayer: y = x / sqrt(1 + alpha*x*x); dx = dy / sqrt(1 + alpha*x*x)^3;
// dalpha = sum of -dy * y^3 / 2 over a channel.
//
// Order:   rows x[c] of M = H*W*N elements; each c has its own alpha.
// Threads: one per element, a row of blocks per c. In bprop a block strides through its row and sums
//          its share of dalpha into sums[c][block]; sum_rows adds up the shares in a fixed order.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0.
#include "minet.cuh"

extern "C" __global__ void my_layer_fprop(const float *x, float *y, const float *alpha, int C, int H,
                                          int W, int N, float beta) {
    count_t M = (count_t)W * N;
    FOR_ROWS(row, (count_t)C * H) {
        float own = alpha[row / H];
        FOR_EACH(m, M) {
            float value = x[row * M + m];
            put(y + row * M + m, value / sqrtf(1 + own * value * value), beta);
        }
    }
}

extern "C" __global__ void my_layer_bprop(const float *x, const float *dy, float *dx,
                                          const float *alpha, float *sums, int C, int H, int W, int N,
                                          float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float own = alpha[c], total = 0;
        FOR_EACH(m, M) {
            float value = x[c * M + m], delta = dy[c * M + m];
            float root = 1 / sqrtf(1 + own * value * value), out = value * root;
            if (dx) put(dx + c * M + m, delta * root * root * root, beta);
            total -= delta * out * out * out / 2;
        }
        total = block_sum(total);
        if (threadIdx.x == 0) sums[c * gridDim.x + blockIdx.x] = total;
    }
}
