// What minet's kernels have in common. README.md has the conventions.
#pragma once

// Counts elements of arrays; minet defines WIDE if an array has 2^30 of them or more.
#ifdef WIDE
typedef long long count_t;
#else
typedef int count_t;
#endif
typedef long long index_t; // a size given as an argument

// One thread per i, over the whole grid, whatever its shape.
#define FOR_ALL(i, size)                                                                                   \
    for (count_t i = (blockIdx.y * (count_t)gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;             \
         i < (count_t)(size); i += (count_t)gridDim.x * gridDim.y * blockDim.x)
// One thread per i of a row.
#define FOR_EACH(i, size)                                                                                  \
    for (count_t i = blockIdx.x * (count_t)blockDim.x + threadIdx.x; i < (count_t)(size);                  \
         i += (count_t)gridDim.x * blockDim.x)
// One row of threads per row, whatever the grid.
#define FOR_ROWS(row, rows) for (count_t row = blockIdx.y; row < (count_t)(rows); row += gridDim.y)

// Neither infinite nor NaN.
__device__ __forceinline__ bool is_finite(float value) { return value - value == 0; }

// *at <- beta * *at + value; if beta is 0, *at is not read.
__device__ __forceinline__ void put(float *at, float value, float beta) {
    *at = beta == 0 ? value : beta * *at + value;
}

// What a thread computes at once: LANES samples, neighbours along N, read and written as one. A layer with
// LANES among its constants gets that value if N and the images' addresses are multiples of it, else 1.
#ifndef LANES
#define LANES 1
#endif
#define EACH_LANE(l) _Pragma("unroll") for (int l = 0; l < LANES; l++)
template <class T> struct alignas(sizeof(T) * LANES) Lanes {
    T of[LANES];
};
typedef Lanes<float> Samples;

// The samples from `at` on, or `otherwise` instead of each: a load that depends on no branch.
template <class T> __device__ __forceinline__ Lanes<T> lanes(const T *at, bool there, T otherwise) {
    Lanes<T> values;
    EACH_LANE(l) values.of[l] = otherwise;
    if (there) values = *(const Lanes<T> *)at;
    return values;
}
// The address `bytes` after a place; if the place is the same for the whole block, it costs the threads
// nothing.
template <class T> __device__ __forceinline__ T *past(T *place, unsigned bytes) {
    return (T *)((char *)place + bytes);
}
__device__ __forceinline__ void put(float *at, Samples value, float beta) {
    if (beta != 0) {
        Samples before = *(const Samples *)at;
        EACH_LANE(l) value.of[l] += beta * before.of[l];
    }
    *(Samples *)at = value;
}

// The sum over the block's threads, for thread 0, in an order that depends on the block's size alone. All
// threads along x and y must take part, and their number must be a multiple of 32.
__device__ __forceinline__ float block_sum(float value) {
    __shared__ float of_warp[32];
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
    int thread = threadIdx.y * blockDim.x + threadIdx.x, warps = blockDim.x * blockDim.y / 32;
    __syncthreads(); // the call before this one has read of_warp
    if (thread % 32 == 0) of_warp[thread / 32] = value;
    __syncthreads();
    if (thread >= 32) return 0;
    value = thread < warps ? of_warp[thread] : 0;
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
    return value;
}
