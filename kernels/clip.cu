// Clipping by the norm: scale <- min(1, most / (norm + 1e-6)), norm = the square root of the sum of all g^2.
//
//   squares     partial[b] <- sum of block b's share of g^2
//   clip_scale  scale      <- the factor; it stays on the card, where sgd.cu and adam.cu read it
//
// Order:   each thread strides over all parameters, then a fixed tree in each block, then one over the blocks, all
//          in double. The first block of a parameter differs from one to the next, so that small ones spread out.
// Threads: squares: one per LANES elements, at most; clip_scale: one block.
// Bytes:   4 per element.
// Source:  Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, arXiv 1211.5063,
//          in the form of PyTorch's torch.nn.utils.clip_grad_norm_.
#include "minet.cuh"
#define SUMMANDS 256 // threads of a block

__device__ __forceinline__ double total_of(double value) {
    __shared__ double of[SUMMANDS];
    of[threadIdx.x] = value;
    for (int half = SUMMANDS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) of[threadIdx.x] += of[threadIdx.x + half];
    }
    return of[0]; // for the first thread
}

// places: (start, size) of each parameter.
extern "C" __global__ void squares(const float *g, const long long *places, double *partial, int parameters) {
    double total = 0;
    for (int row = 0; row < parameters; row++) {
        count_t groups = (places[2 * row + 1] + LANES - 1) / LANES, first = (blockIdx.x + row) % gridDim.x;
        for (count_t i = first * SUMMANDS + threadIdx.x; i < groups; i += (count_t)gridDim.x * SUMMANDS) {
            Samples slope = *((const Samples *)(g + places[2 * row]) + i);
            EACH_LANE(l) total += (double)slope.of[l] * slope.of[l];
        }
    }
    total = total_of(total);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

extern "C" __global__ void clip_scale(const double *partial, int count, double most, double *scale) {
    double total = 0;
    for (int i = threadIdx.x; i < count; i += SUMMANDS) total += partial[i];
    total = total_of(total);
    if (threadIdx.x) return;
    double factor = most / (sqrt(total) + 1e-6);
    *scale = factor > 1 ? 1 : factor; // a NaN passes
}
