// Dropout: mask = word >= threshold; y = x * mask / (1 - rate); dx = dy * mask / (1 - rate).
//
// Order:   flat; element i of (C, H, W, N) takes word i % 4 of Philox block i / 4 at the training step. Of a part
//          of a batch, it is the element that i is in the whole batch.
// Threads: one per LANES elements; with four of them, one block of Philox for each.
// Bytes:   9 per element forward, 9 backward, and 4 more if beta is not 0.
// Bits:    the mask comes from comparing integers, so it is the same on every backend.
// Source:  Srivastava et al., "Dropout", JMLR 15, 2014, scaled in training ("inverted").
#include "minet.cuh"
#include "philox.cuh"

extern "C" __global__ void dropout_fprop(const float *x, float *y, unsigned char *mask, int C, int H, int W, int N,
                                         unsigned key0, unsigned key1, long long step, unsigned threshold,
                                         float scale, float beta, int first, int whole) {
    FOR_ALL(i, (count_t)C * H * W * N / LANES) {
        Samples value = ((const Samples *)x)[i];
        Lanes<unsigned> word = drawn(key0, key1, step, in_whole((long long)i * LANES, N, first, whole));
        Lanes<unsigned char> kept;
        EACH_LANE(l) {
            kept.of[l] = word.of[l] >= threshold;
            value.of[l] *= scale * kept.of[l];
        }
        ((Lanes<unsigned char> *)mask)[i] = kept;
        put(y + i * LANES, value, beta);
    }
}

extern "C" __global__ void dropout_bprop(const float *dy, float *dx, const unsigned char *mask, int C, int H, int W,
                                         int N, float scale, float beta) {
    FOR_ALL(i, (count_t)C * H * W * N / LANES) {
        Samples delta = ((const Samples *)dy)[i];
        Lanes<unsigned char> kept = ((const Lanes<unsigned char> *)mask)[i];
        EACH_LANE(l) delta.of[l] *= scale * kept.of[l];
        put(dx + i * LANES, delta, beta);
    }
}
