// The tile of a product that a block of conv.cu or conv_dw.cu computes, and how its factors come to it.
//
// A block computes BM x BN sums, BK terms at a time, from STAGES of shared memory that copies fill ahead. Its
// GROUPS of warps share the terms of a stage, and are added up at the end, in their order. A warp computes
// WM x WN sums, a thread TM x TN of them. RESIDENT blocks are to fit on a multiprocessor. With TF32 tensor cores
// multiply, with factors rounded to 11 bits.
#pragma once
#include <cuda_pipeline.h>
#include "minet.cuh"

#ifndef GROUPED // whether maps are divided into groups; without, no kernel has registers for them
#define GROUPED 0
#endif
#define WM (4 * TM)
#define WN (8 * TN)
#define DEPTH (BK / GROUPS) // of a group
#define GROUP (32 * (BM / WM) * (BN / WN))
#define THREADS (GROUPS * GROUP)
#ifdef WIDE // positions of 64 bits take more registers, and so do copies of one sample
#define FITTING 1
#elif LANES == 1 && RESIDENT > 2
#define FITTING (RESIDENT - 1)
#else
#define FITTING RESIDENT
#endif
static_assert(BM % WM == 0 && BN % WN == 0 && BK % GROUPS == 0, "warps fill the tile, and share its depth");
static_assert(!TF32 || (WM % 16 == 0 && DEPTH % 8 == 0), "a tensor core multiplies 16 x 8 by 8 x 8");

// Copies floats into shared memory without waiting for them, or zeros if they are not there.
__device__ __forceinline__ void copy(float *to, const float *from, int floats, bool there) {
    __pipeline_memcpy_async(to, from, 4 * floats, there ? 0 : 4 * floats);
}

// Of a thread: its group of warps, its number in there, its lane, and where its warp's sums begin.
struct Worker {
    int group, inside, lane, m, n;
    __device__ __forceinline__ Worker(int thread)
        : group(thread / GROUP), inside(thread % GROUP), lane(thread % 32), m(inside / 32 / (BN / WN) * WM),
          n(inside / 32 % (BN / WN) * WN) {}
};

// Adds up the groups' sums in group 0, in their order, through shared memory that no copy fills any more.
__device__ __forceinline__ void add_groups(float *sum, float *room, const Worker &me) {
    if (GROUPS == 1) return;
    __pipeline_wait_prior(0);
#pragma unroll
    for (int i = 0; i < TM; i++) {
        __syncthreads();
        if (me.group > 0)
#pragma unroll
            for (int j = 0; j < TN; j++) room[((me.group - 1) * TN + j) * GROUP + me.inside] = sum[i * TN + j];
        __syncthreads();
        if (me.group == 0)
#pragma unroll
            for (int g = 0; g < GROUPS - 1; g++)
#pragma unroll
                for (int j = 0; j < TN; j++) sum[i * TN + j] += room[(g * TN + j) * GROUP + me.inside];
    }
}

#if TF32
#ifdef __CUDACC__
__device__ __forceinline__ unsigned tf32(float value) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
}
// d += a b of 16 x 8 and 8 x 8. Lane 4*g + t holds a[g | g+8][t | t+4], b[t | t+4][g], d[g | g+8][2t | 2t+1].
__device__ __forceinline__ void multiply(float *d, const unsigned *a, const unsigned *b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else // the same without tensor cores, for the emulator
__device__ unsigned tf32(float value) { return (__float_as_uint(value) + 0x1000u) & ~0x1fffu; }
__device__ void multiply(float *d, const unsigned *a, const unsigned *b) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int k = 0; k < 8; k++) {
        float row[2], column[2];
        for (int l = 0; l < 2; l++) {
            row[l] = __uint_as_float(__shfl_sync(0xffffffffu, a[k / 4 * 2 + l], g * 4 + k % 4));
            column[l] = __uint_as_float(__shfl_sync(0xffffffffu, b[k / 4], (2 * t + l) * 4 + k % 4));
        }
        for (int l = 0; l < 4; l++) d[l] += row[l / 2] * column[l % 2];
    }
}
#endif
// Adds a warp's product of WM x DEPTH and DEPTH x WN in shared memory: (i, e) is at a[i*AI + e*AE], (e, j) at
// b[j*BJ + e*BE].
template <int AI, int AE, int BJ, int BE>
__device__ __forceinline__ void tensor_product(float *sum, const float *a, const float *b) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int e = 0; e < DEPTH; e += 8) {
        unsigned u[WM / 16][4], v[WN / 8][2];
#pragma unroll
        for (int i = 0; i < WM / 16; i++)
#pragma unroll
            for (int l = 0; l < 4; l++) u[i][l] = tf32(a[(i * 16 + l % 2 * 8 + g) * AI + (e + l / 2 * 4 + t) * AE]);
#pragma unroll
        for (int j = 0; j < WN / 8; j++)
#pragma unroll
            for (int l = 0; l < 2; l++) v[j][l] = tf32(b[(j * 8 + g) * BJ + (e + l * 4 + t) * BE]);
#pragma unroll
        for (int j = 0; j < WN / 8; j++)
#pragma unroll
            for (int i = 0; i < WM / 16; i++) multiply(sum + (i * (WN / 8) + j) * 4, u[i], v[j]);
    }
}
// Where pair number f of a lane's sums is in its warp's.
__device__ __forceinline__ int pair_m(int f, int lane) { return f / 2 / (WN / 8) * 16 + f % 2 * 8 + lane / 4; }
__device__ __forceinline__ int pair_n(int f, int lane) { return f / 2 % (WN / 8) * 8 + lane % 4 * 2; }
#endif
