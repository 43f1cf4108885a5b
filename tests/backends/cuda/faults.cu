// Kernels with one planted fault each, on the line marked FAULT; a second line involved has ALSO. Each is
// launched by tests/backends/test_emulator.py on blocks of 32 threads, with size = 32.
#include <cassert>
#include <cuda_pipeline.h>

extern "C" __global__ void past_the_end(const float *x, float *y, int size) {
    int i = threadIdx.x;
    y[i] = x[i + 1]; // FAULT past_the_end
}

extern "C" __global__ void before_the_start(const float *x, float *y, int size) {
    int i = threadIdx.x;
    y[i - 1] = x[i]; // FAULT before_the_start
}

extern "C" __global__ void null_pointer(const float *x, float *y, int size) {
    y[threadIdx.x] = 1; // FAULT null_pointer
}

extern "C" __global__ void past_shared(const float *x, float *y, int size) {
    __shared__ float s[8];
    float *p = s + size;
    p[threadIdx.x] = x[0]; // FAULT past_shared
    y[0] = p[threadIdx.x];
}

extern "C" __global__ void past_dynamic(const float *x, float *y, int size) {
    extern __shared__ float s[];
    s[threadIdx.x] = 1; // FAULT past_dynamic
}

extern "C" __global__ void past_by_atomic(const float *x, float *y, int size) {
    atomicAdd(y + size, 1.0f); // FAULT past_by_atomic
}

extern "C" __global__ void other_s_locals(const float *x, float *y, int size) {
    __shared__ float *whose;
    float mine[4] = {x[0], x[1], x[2], x[3]};
    if (threadIdx.x == 0) whose = mine;
    __syncthreads();
    y[threadIdx.x] = whose[threadIdx.x & 3] + mine[threadIdx.x & 3]; // FAULT other_s_locals
}

extern "C" __global__ void unwritten(const float *x, float *y, int size) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x + 1]; // FAULT unwritten
}

extern "C" __global__ void unwritten_counter(const float *x, int *count) {
    __shared__ int s;
    atomicAdd(&s, 1); // FAULT unwritten_counter
    count[0] = s;
}

extern "C" __global__ void no_barrier(const float *x, float *y, int size) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x]; // ALSO no_barrier
    if (threadIdx.x == 0) s[size] = 0;
    y[threadIdx.x] = s[size - 1 - threadIdx.x]; // FAULT no_barrier
}

extern "C" __global__ void no_second_barrier(const float *x, float *y, int size) {
    __shared__ float s[64];
    for (int i = 0; i < 2; i++) {
        s[threadIdx.x] = x[threadIdx.x]; // FAULT no_second_barrier
        __syncthreads();
        y[threadIdx.x] = s[size - 1 - threadIdx.x]; // ALSO no_second_barrier
    }
}

extern "C" __global__ void no_syncwarp(const float *x, float *y, int size) {
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x]; // ALSO no_syncwarp
    __syncwarp(0xffffu << (threadIdx.x & 16));
    y[threadIdx.x] = s[threadIdx.x ^ 16]; // FAULT no_syncwarp
}

extern "C" __global__ void read_by_many(const float *x, float *y, int size) {
    __shared__ float s[1];
    if (threadIdx.x == 0) s[0] = x[0];
    __syncthreads();
    y[threadIdx.x] = s[0];               // ALSO read_by_many
    if (threadIdx.x == size - 1) s[0] = 0; // FAULT read_by_many
}

// Launched on 64 threads: the second warp is ordered within itself, but not with the first.
extern "C" __global__ void read_by_two_warps(const float *x, float *y, int size) {
    __shared__ float s[1];
    if (threadIdx.x == 0) s[0] = x[0];
    __syncthreads();
    y[threadIdx.x] = s[0]; // ALSO read_by_two_warps
    __syncwarp();
    if (threadIdx.x == 63) s[0] = 0; // FAULT read_by_two_warps
}

extern "C" __global__ void one_result(const float *x, float *y, int size) {
    y[0] += x[threadIdx.x]; // FAULT one_result
}

extern "C" __global__ void blocks_meet(const float *x, float *y, int size) {
    if (threadIdx.x == 0) y[0] = x[blockIdx.x]; // FAULT blocks_meet
}

extern "C" __global__ void blocks_read(const float *x, float *y, int size) {
    if (threadIdx.x == 0) y[size + blockIdx.x] = y[0]; // ALSO blocks_read
    if (threadIdx.x == 0 && blockIdx.x == 1) y[0] = 1; // FAULT blocks_read
}

extern "C" __global__ void blocks_cross(const float *x, float *y, int size) {
    if (threadIdx.x) return;
    if (blockIdx.x == 0) y[1] = y[0]; // ALSO blocks_cross
    else y[0] = 1;                    // FAULT blocks_cross
}

extern "C" __global__ void half_atomic(const float *x, float *y, int size) {
    if (threadIdx.x == 0) y[0] = 0; // ALSO half_atomic
    atomicAdd(y, x[threadIdx.x]);   // FAULT half_atomic
}

extern "C" __global__ void two_barriers(const float *x, float *y, int size) {
    if (threadIdx.x < 8) {
        y[threadIdx.x] = 1;
        __syncthreads(); // FAULT two_barriers
    } else {
        y[threadIdx.x] = 2;
        __syncthreads(); // ALSO two_barriers
    }
}

extern "C" __global__ void returns_before(const float *x, float *y, int size) {
    if (threadIdx.x >= size - 1) return;
    y[threadIdx.x] = 1;
    __syncthreads(); // FAULT returns_before
    y[threadIdx.x] += 1;
}

extern "C" __global__ void once_more(const float *x, float *y, int size) {
    for (int i = 0; i < 2 + (threadIdx.x == 3); i++) __syncthreads(); // FAULT once_more
}

extern "C" __global__ void lane_stays_away(const float *x, float *y, int size) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 2) value = __shfl_xor_sync(0xffffffffu, value, 2); // FAULT lane_stays_away
    __syncthreads(); // ALSO lane_stays_away
    y[threadIdx.x] = value;
}

extern "C" __global__ void not_in_its_mask(const float *x, float *y, int size) {
    y[threadIdx.x] = __shfl_sync(0xffu, x[threadIdx.x], 0); // FAULT not_in_its_mask
}

extern "C" __global__ void two_operations(const float *x, float *y, int size) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffffffu, x[0], 0); // FAULT two_operations
    else y[threadIdx.x] = __any_sync(0xffffffffu, x[0] > 0); // ALSO two_operations
}

extern "C" __global__ void misaligned(const float *x, float *y, int size) {
    float4 v = *(const float4 *)(x + 1); // FAULT misaligned
    y[4 * threadIdx.x] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void misaligned_atomic(const float *x, float *y, int size) {
    atomicAdd((float *)((char *)y + 2), 1); // FAULT misaligned_atomic
}

extern "C" __global__ void divided(const float *x, float *y, int size) {
    y[0] = (int)threadIdx.x / (size - size); // FAULT divided
}

extern "C" __global__ void overflown(const float *x, float *y, int size) {
    int large = 1 << 30;
    y[0] = large * size; // FAULT overflown
}

extern "C" __global__ void shifted(const float *x, float *y, int size) {
    y[0] = 1u << (size + 30); // FAULT shifted
}

extern "C" __global__ void past_locals(const float *x, float *y, int size) {
    float taps[4] = {1, 2, 3, 4};
    y[0] = taps[size]; // FAULT past_locals
}

__device__ __noinline__ float deep(int n, const float *x) {
    volatile float room[4096];
    room[n & 4095] = x[0];
    return n ? room[n & 4095] + deep(n - 1, x) : 0;
}
extern "C" __global__ void recursive(const float *x, float *y, int size) { y[0] = deep(1000, x); }

extern "C" __global__ void trapped(const float *x, float *y, int size) {
    if (threadIdx.x == 2) __trap(); // FAULT trapped
}

extern "C" __global__ void asserted(const float *x, float *y, int size) {
    assert(threadIdx.x < 2); // FAULT asserted
}

extern "C" __global__ void not_waited(const float *x, float *y, int size) {
    __shared__ float room[64];
    __pipeline_memcpy_async(room + threadIdx.x, x + threadIdx.x, 4);
    __pipeline_commit();
    __pipeline_wait_prior(1); // of one
    __syncthreads();
    y[threadIdx.x] = room[threadIdx.x]; // FAULT not_waited
}

extern "C" __global__ void waited_for_its_own(const float *x, float *y, int size) {
    __shared__ float room[64];
    __pipeline_memcpy_async(room + threadIdx.x, x + threadIdx.x, 4);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    y[threadIdx.x] = room[31 - threadIdx.x]; // FAULT waited_for_its_own
}

extern "C" __global__ void copied_too_far(const float *x, float *y, int size) {
    __shared__ __align__(16) float room[128];
    __pipeline_memcpy_async(room + 4 * threadIdx.x, x + 4 * (threadIdx.x % 8) + 4, 16); // FAULT copied_too_far
    __pipeline_commit();
    __pipeline_wait_prior(0);
}

extern "C" __global__ void copied_askew(const float *x, float *y, int size) {
    __shared__ __align__(16) float room[128];
    __pipeline_memcpy_async(room + 4 * threadIdx.x, x + 1, 16); // FAULT copied_askew
    __pipeline_commit();
    __pipeline_wait_prior(0);
}
