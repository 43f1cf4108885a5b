// Dropout: mask = word >= threshold; y = x * mask / (1 - rate); dx = dy * mask / (1 - rate).
//
// Order:   flat; element i of (C, H, W, N) takes word i % 4 of Philox block i / 4 at the training step.
// Threads: fprop one per block of four elements, bprop one per element.
// Bytes:   9 per element forward, 9 backward, and 4 more if beta is not 0.
// Bits:    the mask comes from comparing integers, so it is the same on every backend.
// Source:  Srivastava et al., "Dropout", JMLR 15, 2014, scaled in training ("inverted").
#include "minet.cuh"
#include "philox.cuh"

extern "C" __global__ void dropout_fprop(const float *x, float *y, unsigned char *mask, int C, int H, int W, int N,
                                         unsigned key0, unsigned key1, long long step, unsigned threshold,
                                         float scale, float beta) {
    count_t size = (count_t)C * H * W * N;
    FOR_ALL(block, (size + 3) / 4) {
        uint4 four = words(key0, key1, step, block);
        unsigned word[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            count_t i = 4 * block + k;
            if (i >= size) break;
            bool kept = word[k] >= threshold;
            mask[i] = kept;
            put(y + i, x[i] * (scale * kept), beta);
        }
    }
}

extern "C" __global__ void dropout_bprop(const float *dy, float *dx, const unsigned char *mask, int C, int H, int W,
                                         int N, float scale, float beta) {
    FOR_ALL(i, (count_t)C * H * W * N) put(dx + i, dy[i] * (scale * mask[i]), beta);
}
