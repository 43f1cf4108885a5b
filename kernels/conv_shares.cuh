// The sums of dw and db in two steps: conv_dw adds up shares of the positions, and blocks of the next launch the shares.
//
//   dw[k, c, r, s] += sum over the tap's shares of part[z, k, c], of the shares z0 .. z1-1 at hand
//   db[k]          += sum over the pieces of db_part[piece, k]
//
// Order:   dw (K, C, R, S). A tap's positions are those of the outputs (p, q) that have it in the image, row by row, in
//          shares of `share` positions. So all blocks have as much to do, whatever taps lie in the padding. The shares,
//          and so the bits, depend on the sizes alone.
//          flat: part[z, k, (c, r, s)]; all taps at once, over all positions.
// Threads: a sum of shares: one thread, or for many shares several, each every so many-th share, and then one adds up
//          theirs. A sum of pieces: one thread.
// Bytes:   4 per part, 8 per dw.
#pragma once
#include "conv_tile.cuh"

// The outputs, out of `count`, that have tap r of their windows in the image.
struct Span {
    int first, size;
    __device__ __forceinline__ Span(int r, int stride, int pad, int step, int image, int count) {
        int start = pad - r * step, last = image - 1 + start; // p*stride is in start .. last
        first = start > 0 ? (start + stride - 1) / stride : 0;
        size = last < 0 ? 0 : max(0, min(count, last / stride + 1) - first);
    }
};

// How the positions of P x Q outputs of a window over H x W are shared out.
struct Cut {
    bool flat;
    int H, W, P, Q, N, R, S, SY, SX, PY, PX, DY, DX, share;

    __device__ __forceinline__ int lists() const { return flat ? 1 : R * S; }
    __device__ __forceinline__ Span down(int tap) const {
        return flat ? Span(0, 1, 0, 1, P, P) : Span(tap / S, SY, PY, DY, H, P);
    }
    __device__ __forceinline__ Span across(int tap) const {
        return flat ? Span(0, 1, 0, 1, Q, Q) : Span(tap % S, SX, PX, DX, W, Q);
    }
    __device__ __forceinline__ int shares(int tap) const {
        return ((count_t)down(tap).size * across(tap).size * N + share - 1) / share;
    }
};

// What block number `block` adds up; `size` is that of dw, or without flat that of one tap. `room` is for THREADS.
__device__ __forceinline__ void add_shares(const Cut &cut, const float *part, float *dw, count_t size, int z0, int z1,
                                           const float *db_part, float *db, int maps, int pieces, count_t block,
                                           float *room) {
    int thread = threadIdx.x, lists = cut.lists(), across = z1 - z0 > 32 * lists ? 32 : THREADS;
    count_t blocks = (size + across - 1) / across; // of each tap
    if (block >= lists * blocks) {
        count_t k = (block - lists * blocks) * THREADS + thread;
        if (k >= maps || pieces == 0) return; // blocks may be more than there is to add
        float sum = 0;
#pragma unroll 4
        for (const float *at = db_part + k, *end = at + pieces * (count_t)maps; at < end; at += maps) sum += *at;
        db[k] += sum;
        return;
    }
    int tap = block / blocks, first = 0;
#pragma unroll 1
    for (int t = thread % 32; t < tap; t += 32) first += cut.shares(t);
    for (int step = 16; step > 0; step /= 2) first += __shfl_xor_sync(0xffffffffu, first, step);
    int begin = max(first, z0), end = min(first + cut.shares(tap), z1), together = THREADS / across;
    count_t i = block % blocks * across + thread % across;
    float sum = 0;
    part += (begin - z0) * size + i;
    if (i < size)
#pragma unroll 4
        for (int z = thread / across; z < end - begin; z += together) sum += part[z * size];
    room[thread] = sum;
    __syncthreads();
    if (thread >= across || i >= size) return;
    for (int t = 1; t < together; t++) sum += room[t * across + thread];
    dw[cut.flat ? i : i * lists + tap] += sum;
}
