// Swish: y = x*s with s = sigmoid(b*x); dx = dy*(s + b*x*s*(1-s)); db = sum of dy*x*x*s*(1-s).
//
// Order:   rows x[c,h] of M = W*N elements in fprop, x[c] of M = H*W*N in bprop; each c has its own b.
// Threads: one per element, a row of blocks per row. In bprop a block strides through its row and sums its share
//          of db into sums[c][block]; a second launch, sum_rows, adds up the shares in a fixed order.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0.
// Source:  Ramachandran, Zoph, Le, "Searching for activation functions", 2017, arXiv 1710.05941.
#include "minet.cuh"

__device__ __forceinline__ float sigmoid(float t) { return 0.5f + 0.5f * tanhf(0.5f * t); }

extern "C" __global__ void swish_fprop(const float *x, float *y, const float *b, int C, int H, int W, int N,
                                       float beta) {
    count_t M = (count_t)W * N;
    FOR_ROWS(row, (count_t)C * H) {
        float scale = b[row / H];
        FOR_EACH(m, M) {
            float value = x[row * M + m];
            put(y + row * M + m, value * sigmoid(scale * value), beta);
        }
    }
}

extern "C" __global__ void swish_bprop(const float *x, const float *dy, float *dx, const float *b, float *sums,
                                       int C, int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float scale = b[c], total = 0;
        FOR_EACH(m, M) {
            float value = x[c * M + m], delta = dy[c * M + m];
            float s = sigmoid(scale * value), slope = value * s * (1 - s); // of the sigmoid's argument b*x
            if (dx) put(dx + c * M + m, delta * (s + scale * slope), beta);
            total += delta * value * slope;
        }
        total = block_sum(total);
        if (threadIdx.x == 0) sums[c * gridDim.x + blockIdx.x] = total;
    }
}
