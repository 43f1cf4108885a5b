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
// Asks for what lies there to be brought into the L2 cache. Nothing waits for it, and no register is needed.
__device__ __forceinline__ void fetch(const void *at) {
#ifdef __CUDACC__
    asm("prefetch.global.L2 [%0];" ::"l"(at));
#endif
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

// The same sum for all of the block's threads.
__device__ __forceinline__ float block_total(float value) {
    __shared__ float total;
    value = block_sum(value); // begins with a barrier: no thread writes before all have read
    if (threadIdx.x == 0 && threadIdx.y == 0) total = value;
    __syncthreads();
    return total;
}

// Whether this block is the last of `blocks` to come here; if so, it sees what the others wrote before. Which one
// that is differs from run to run, so what it adds up must have an order of its own. *came is 0 before and after.
__device__ __forceinline__ bool last_block(unsigned *came, unsigned blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) last = atomicInc(came, blocks - 1) == blocks - 1; // then wraps to 0
    __syncthreads();
    if (last) __threadfence(); // what the multiprocessor's own cache holds may be older
    return last;
}
