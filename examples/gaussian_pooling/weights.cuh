// The weights of rungs 3 to 7, and how a block leaves its share of their slopes.
#pragma once
#include "minet.cuh"
#include "window.cuh"

// One window along one axis: out = taps weights, then as many slopes by the mean, then by log sigma. `first` is where
// its first tap lies in an image of `size`. Distances are measured from the tap inside that is nearest to the mean: its
// exponential is 1, so the sum cannot vanish. With d = d0 + t, d^2 - E[d^2] = 2 d0 (t - E[t]) + t^2 - E[t^2].
__device__ __forceinline__ void weigh(float *out, float mean, float log_sigma, int taps, int first, int size) {
    float precision = expf(-2 * log_sigma), middle = 0.5f * (taps - 1) + mean;
    int begin = max(0, -first), end = min(taps, size - first); // the taps inside
    float nearest = min(max(rintf(middle), (float)begin), end - 1.0f), d0 = nearest - middle;
    float total = 0, t_mean = 0, t2_mean = 0;
    for (int i = begin; i < end; i++) {
        float t = i - nearest, share = expf(-0.5f * precision * t * (t + 2 * d0));
        out[i] = share, total += share, t_mean += share * t, t2_mean += share * t * t;
    }
    t_mean /= total, t2_mean /= total;
    for (int i = 0; i < taps; i++) {
        float t = i - nearest, w = i >= begin && i < end ? out[i] / total : 0;
        out[i] = w;
        out[taps + i] = w * precision * (t - t_mean);
        out[2 * taps + i] = w * precision * (2 * d0 * (t - t_mean) + t * t - t2_mean);
    }
}

// parts[mean, log_sigma][set][y, x][block] <- this block's sums of four slopes; `sets` is C * KERNELS.
__device__ __forceinline__ void leave(float *parts, const float (&slopes)[4], int set, int sets) {
    int blocks = gridDim.x * gridDim.y, block = blockIdx.y * gridDim.x + blockIdx.x;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        float total = block_sum(slopes[k]);
        if (threadIdx.x == 0) parts[((count_t)(k / 2 * sets + set) * 2 + k % 2) * blocks + block] = total;
    }
}
