// A training step's verdict, which stays on the card: the host reads it when the next step is on its way.
//
//   judge      verdict <- (loss, refused): loss = sum of terms; refused = 1 unless it and `sum` are finite
//   take_back  state   <- kept, if refused
//
// A verdict of "refused" stays until the host has read it, and so does the loss: the steps that were queued
// behind a refused one change nothing either. sgd.cu and adam.cu read it too.
//
// Order:   terms strided over a block's threads, then a fixed tree, in double.
// Threads: judge: one block. take_back: one per word.
// Bytes:   judge 8 per term; take_back 8 per word, if refused.
#include "minet.cuh"
#define JUDGES 256

extern "C" __global__ void judge(const double *terms, int count, const float *sum, double *verdict) {
    __shared__ double of[JUDGES];
    double total = 0;
    for (int i = threadIdx.x; i < count; i += JUDGES) total += terms[i];
    of[threadIdx.x] = total;
    for (int half = JUDGES / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) of[threadIdx.x] += of[threadIdx.x + half];
    }
    if (threadIdx.x || verdict[1] != 0) return;
    verdict[0] = of[0];
    verdict[1] = !(of[0] - of[0] == 0 && (!sum || is_finite(*sum)));
}

extern "C" __global__ void take_back(const unsigned *kept, unsigned *state, const double *verdict, index_t size) {
    if (verdict[1] == 0) return;
    FOR_ALL(i, size) state[i] = kept[i];
}
