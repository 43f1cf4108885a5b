// Philox4x32-10: four random 32-bit words from a key and a counter, without state.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3;
// constants and test vectors from Random123. Twin of minet/loops/philox.py.
#pragma once
#include "minet.cuh"

__device__ __forceinline__ uint4 philox(unsigned k0, unsigned k1, uint4 c) {
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
        unsigned high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
        c = make_uint4(high1 ^ c.y ^ k0, low1, high0 ^ c.w ^ k1, low0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return c;
}

// The words of elements 4*block .. 4*block + 3 at a training step.
__device__ __forceinline__ uint4 words(unsigned k0, unsigned k1, long long step, long long block) {
    uint4 counter = make_uint4((unsigned)block, (unsigned)(block >> 32), (unsigned)step, (unsigned)(step >> 32));
    return philox(k0, k1, counter);
}

// The word of one element.
__device__ __forceinline__ unsigned word(unsigned k0, unsigned k1, long long step, long long element) {
    uint4 w = words(k0, k1, step, element >> 2);
    return element & 2 ? (element & 1 ? w.w : w.z) : (element & 1 ? w.y : w.x);
}

// The element in the whole batch that i is here, in a (..., N) of samples first .. first + N - 1 of `whole`.
#ifdef PART
__device__ __forceinline__ long long in_whole(count_t i, int N, int first, int whole) {
    return (long long)(i / N) * whole + first + i % N;
}
#else
#define in_whole(i, N, first, whole) (i) // all samples are here
#endif

// The words of a thread's samples, of which `element` is the first: in the whole batch, they follow it.
__device__ __forceinline__ Lanes<unsigned> drawn(unsigned k0, unsigned k1, long long step, long long element) {
#if LANES == 4 && defined PART
    uint4 w = words(k0, k1, step, element >> 2);
    Lanes<unsigned> of = {w.x, w.y, w.z, w.w};
    if (element & 3) // a part may begin anywhere in a block
        EACH_LANE(l) of.of[l] = word(k0, k1, step, element + l);
    return of;
#elif LANES == 4
    uint4 w = words(k0, k1, step, element >> 2);
    return {w.x, w.y, w.z, w.w};
#else
    Lanes<unsigned> w;
    EACH_LANE(l) w.of[l] = word(k0, k1, step, element + l);
    return w;
#endif
}

// A float in [0, 1) from a word's upper 24 bits: exact.
__device__ __forceinline__ float uniform(unsigned word) { return (float)(word >> 8) * 0x1p-24f; }
