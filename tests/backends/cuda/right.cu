// Right kernels, which must pass on the emulator in every thread order. tests/backends/test_emulator.py shows
// what each computes.
#include <cassert>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

extern "C" __global__ void tree_sum(const float *x, float *y, int size) {
    __shared__ float part[64];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    part[t] = i < size ? x[i] : 0;
    __syncthreads();
    for (int half = 32; half > 0; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    if (t == 0) y[blockIdx.x] = part[0];
}

// Warp-synchronous: lanes read what their neighbours wrote, then write where those read.
extern "C" __global__ void warp_sum(const float *x, float *y) {
    __shared__ float part[64];
    int lane = threadIdx.x % 32, first = threadIdx.x - lane;
    part[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    for (int by = 16; by > 0; by /= 2) {
        float value = part[threadIdx.x] + part[first + (lane + by) % 32];
        __syncwarp();
        part[threadIdx.x] = value;
        __syncwarp();
    }
    y[threadIdx.x] = part[threadIdx.x];
}

// Half-warps that synchronise a different number of times, each with its own mask, then all together.
extern "C" __global__ void halves(const int *x, int *y) {
    __shared__ int at[32];
    int lane = threadIdx.x;
    unsigned mine = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    at[lane] = x[lane];
    if (lane < 16) {
        for (int i = 0; i < 3; i++) {
            __syncwarp(mine);
            int value = at[lane ^ 1];
            __syncwarp(mine);
            at[lane] = value + __shfl_xor_sync(mine, value, 1);
        }
    } else {
        __syncwarp(mine);
    }
    __syncwarp();
    y[lane] = at[lane ^ 16];
}

// All lanes read, then synchronise; half of them read again, then synchronise; one of those writes: no race.
extern "C" __global__ void read_again(const int *x, int *y) {
    __shared__ int s;
    int lane = threadIdx.x;
    if (lane == 0) s = x[0];
    __syncwarp();
    int sum = s;
    __syncwarp();
    if (lane < 16) {
        sum += s;
        __syncwarp(0xffffu);
        if (lane == 0) s = sum;
        __syncwarp(0xffffu);
        sum += s;
    }
    y[lane] = sum;
}

extern "C" __global__ void histogram(const unsigned char *x, unsigned *count, int *total, int size) {
    __shared__ unsigned mine[4];
    if (threadIdx.x < 4) mine[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < size; i += blockDim.x) atomicAdd(&mine[x[i] % 4], 1);
    __syncthreads();
    if (threadIdx.x < 4) atomicAdd(count + threadIdx.x, mine[threadIdx.x]);
    atomicMax(total, size);
}

// The last block to end adds up the results of all blocks.
extern "C" __global__ void last_block(const float *x, float *part, unsigned *ended, float *y) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        part[blockIdx.x] = x[blockIdx.x];
        __threadfence();
        last = atomicAdd(ended, 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        y[0] = 0;
        for (int b = 0; b < gridDim.x; b++) y[0] += part[b];
    }
}

// 40 threads: the second warp has eight.
extern "C" __global__ void shuffles(const int *x, int *down, int *up, int *other, int *beyond, int *first,
                                    unsigned *votes) {
    int t = threadIdx.x, lane = t % 32, value = x[t];
    int scan = value;
    for (int by = 1; by < 32; by *= 2) {
        int before = __shfl_up_sync(0xffffffffu, scan, by);
        if (lane >= by) scan += before;
    }
    up[t] = scan;
    int below = __shfl_down_sync(0xffffffffu, value, 1);
    down[t] = lane == 31 || t == blockDim.x - 1 ? -1 : below;
    other[t] = __shfl_xor_sync(0xffffffffu, value, 4, 8);
    beyond[t] = __shfl_xor_sync(0xffffffffu, value, 8, 8); // values of a later segment cannot be read
    first[t] = __shfl_sync(0xffffffffu, value, 0, 4);
    votes[t] = __ballot_sync(0xffffffffu, value % 2);
    if (__any_sync(0xffffffffu, value > 38) != (t >= 32) || !__all_sync(0xffffffffu, value >= 0)) votes[t] = 7;
}

// A warp in which some lanes have returned.
extern "C" __global__ void returned(const float *x, float *y, int size) {
    if (threadIdx.x >= size) return;
    float value = x[threadIdx.x];
    for (int by = 16; by > 0; by /= 2) {
        float other = __shfl_down_sync(0xffffffffu, value, by);
        if (threadIdx.x + by < size) value += other;
    }
    if (threadIdx.x == 0) y[0] = value;
    float nobody = __shfl_down_sync(0xffffffffu, value, 1);
    if (threadIdx.x == size - 1) y[1] = nobody; // noise, on a GPU as well
}

extern "C" __global__ void counts(const int *x, int *y) {
    int t = threadIdx.x;
    y[3 * t] = __syncthreads_count(x[t] > 2);
    y[3 * t + 1] = __syncthreads_or(x[t] > 69);
    y[3 * t + 2] = __syncthreads_and(x[t] >= 0);
}

extern "C" __global__ void vectors(const float4 *x, float4 *y, const float *alone) {
    float4 v = x[threadIdx.x];
    __shared__ __align__(16) float all[32];
    reinterpret_cast<float4 *>(all)[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);
    __syncthreads();
    y[threadIdx.x] = *(const float4 *)(all + 4 * threadIdx.x);
    y[threadIdx.x].x += alone[threadIdx.x];
}

extern "C" __global__ void backwards(const int *x, int *y) {
    extern __shared__ __align__(8) int all[];
    all[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void indices(int *y) {
    int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}

extern "C" __global__ void arguments(int a, long long b, bool c, float d, double e, unsigned f, size_t g,
                                     double *y, const float *nothing) {
    assert(nothing == nullptr);
    if (threadIdx.x) return;
    y[0] = a, y[1] = b, y[2] = c, y[3] = d, y[4] = e, y[5] = f, y[6] = g;
}

template <class T, int N> __device__ T total(T value) {
    __shared__ T all[N];
    __syncthreads();
    all[threadIdx.x] = value;
    __syncthreads();
    T sum = 0;
    for (int i = 0; i < N; i++) sum += all[i];
    return sum;
}
__constant__ float scale[2] = {1.0f, 10.0f};
__device__ const int offset[3] = {100, 200, 300};

extern "C" __global__ void templates(const int *x, float *y) {
    float taps[4] = {0, 1, 2, 3};
    int whole = total<int, 32>(x[threadIdx.x]);
    float half = total<float, 32>(0.5f * taps[threadIdx.x & 3]);
    y[threadIdx.x] = scale[threadIdx.x % 2] * whole + half + offset[threadIdx.x % 3];
}

struct Times {
    int by;
    __device__ explicit Times(int by) : by(by) {}
    __device__ int operator()(int x) const { return by * x; }
};

extern "C" __global__ void members(const int *x, int *y) { y[threadIdx.x] = Times(3)(x[threadIdx.x]); }

// Barriers that compilers tend to copy into both branches of the surrounding ifs.
extern "C" __global__ void around(const int *x, int *y, int n) {
    __shared__ int s[32];
    int t = threadIdx.x;
    for (int i = 0; i < n; i++) {
        if (t < 16) s[t] = x[t] + i;
        __syncthreads();
        if (t < 16) y[t] = s[15 - t];
        else if (t < 20) y[t] = s[t - 16];
        __syncthreads();
    }
}

// Copies a row while the one before is added up. What follows the last row is zeros.
extern "C" __global__ void ahead(const float *x, float *y, int rows) {
    __shared__ __align__(16) float room[2][32][4];
    int t = threadIdx.x;
    float sum = 0;
    for (int row = -1; row <= rows; row++) {
        int next = row + 1;
        if (next <= rows) __pipeline_memcpy_async(room[next % 2][t], x + (next % rows * 32 + t) * 4, 16, next < rows ? 0 : 8);
        __pipeline_commit();
        if (row < 0) continue;
        __pipeline_wait_prior(1);
        __syncthreads();
        for (int i = 0; i < 4; i++) sum += room[row % 2][31 - t][i];
        __syncthreads();
    }
    y[t] = sum;
}

#ifdef __CUDACC__
__device__ int laneid() {
    int lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
#else
__device__ int laneid() { return threadIdx.x % 32; }
#endif
extern "C" __global__ void assembled(int *y) { y[threadIdx.x] = laneid(); }
