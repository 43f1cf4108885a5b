// What kernels that minet did not write use beyond emulator.h. minet/emulator includes it before any kernel's
// file; the headers that such a file includes by CUDA's own names are in the folder emulator/.
#pragma once
#pragma GCC system_header
#define EMU_ANY
#define EMU_MOST_DYNAMIC (227 << 10) // bytes of shared memory; as in emulator/runtime/state.h

#include <cstddef>
// The device's own, before the C library declares them: what is declared first names the symbol.
extern "C" {
int printf(const char *, ...) __asm__("emu_printf");
void *malloc(std::size_t) noexcept __asm__("emu_malloc");
void free(void *) noexcept __asm__("emu_free");
long clock() noexcept __asm__("emu_clock");
}
#define __assert_fail emu_assert_fail // before assert.h declares it
#include <assert.h>
#include <cfloat>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <math.h>
#include <new>
#include <time.h>
#include <type_traits>
#include <utility>
#include "emulator.h"

#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 800
#endif
#define __CUDACC__ 1
#define __NVCC__ 1
#define __CUDACC_VER_MAJOR__ 12
#define __CUDACC_VER_MINOR__ 0
#define CUDART_VERSION 12000
#define CUDA_VERSION 12000
#define __grid_constant__
#define __maxnreg__(...)
#define __cluster_dims__(...)
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __cdecl
#define CUDART_CB

extern "C" {
[[noreturn]] void emu_refuse(const char *what);
unsigned emu_sync_active();
void emu_sync_grid(unsigned line);
int emu_grid_fits();
long long emu_clock();
}
// Where extern __shared__ arrays begin.
extern "C" __attribute__((visibility("hidden"))) char emu_dynamic[];
alignas(1024) char emu_dynamic[EMU_MOST_DYNAMIC];

// Words by which the host's part of a file may name what only the host uses.
typedef int cudaError_t;
typedef struct EmuStream *cudaStream_t;
typedef struct EmuEvent *cudaEvent_t;
typedef unsigned long long cudaTextureObject_t, cudaSurfaceObject_t;
namespace nvcuda { namespace wmma {} }
namespace cub {}
namespace cuda { namespace std {} }

// -- memory -----------------------------------------------------------------------------------------------

#define EMU_LOAD(name)                                                                                     \
    template <class T> EMU_INLINE T name(const T *at) { return *at; }
EMU_LOAD(__ldcs)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldca)
EMU_LOAD(__ldlu)
EMU_LOAD(__ldcv)
#define EMU_STORE(name)                                                                                    \
    template <class T> EMU_INLINE void name(T *at, typename EmuSame<T>::type value) { *at = value; }
EMU_STORE(__stcs)
EMU_STORE(__stcg)
EMU_STORE(__stwb)
EMU_STORE(__stwt)
EMU_INLINE void __threadfence_system() { emu_fence(); }
EMU_INLINE void __nanosleep(unsigned) {}
#define __builtin_assume(condition) ((void)0)
EMU_INLINE std::size_t __cvta_generic_to_shared(const void *at) { return (std::size_t)at; } // for assembly
EMU_INLINE long long clock64() { return emu_clock(); }
EMU_INLINE unsigned long long globaltimer() { return (unsigned long long)emu_clock(); }
#define EMU_SCOPES(name)                                                                                   \
    template <class T, class... V> EMU_INLINE T name##_block(T *at, V... v) { return name(at, v...); }     \
    template <class T, class... V> EMU_INLINE T name##_system(T *at, V... v) { return name(at, v...); }
EMU_SCOPES(atomicAdd)
EMU_SCOPES(atomicSub)
EMU_SCOPES(atomicMin)
EMU_SCOPES(atomicMax)
EMU_SCOPES(atomicInc)
EMU_SCOPES(atomicDec)
EMU_SCOPES(atomicAnd)
EMU_SCOPES(atomicOr)
EMU_SCOPES(atomicXor)
EMU_SCOPES(atomicExch)
EMU_SCOPES(atomicCAS)

// -- warps ------------------------------------------------------------------------------------------------

enum { EMU_MATCH = EMU_VOTE + 1, EMU_MATCH_ALL, EMU_ADD, EMU_LEAST, EMU_MOST, EMU_AND, EMU_OR, EMU_EXCLUSIVE };
EMU_INLINE unsigned __activemask() { return emu_sync_active(); }
template <class T> EMU_INLINE unsigned __match_any_sync(unsigned mask, T value) {
    unsigned there = emu_sync_warp(EMU_MATCH, mask, emu_bits(value)), same = 0;
    for (int lane = 0; lane < 32; lane++)
        if (there >> lane & 1 && emu_value<T>(emu_value_of(lane)) == value) same |= 1u << lane;
    return same;
}
template <class T> EMU_INLINE unsigned __match_all_sync(unsigned mask, T value, int *all) {
    unsigned there = emu_sync_warp(EMU_MATCH_ALL, mask, emu_bits(value));
    *all = 1;
    for (int lane = 0; lane < 32; lane++)
        if (there >> lane & 1 && emu_value<T>(emu_value_of(lane)) != value) *all = 0;
    return *all ? mask : 0;
}
// The values of the mask's lanes, combined in the order of the lanes.
template <class T, class F> EMU_INLINE T emu_reduce(unsigned op, unsigned mask, T value, F combine) {
    unsigned there = emu_sync_warp(op, mask, emu_bits(value));
    bool first = true;
    T sum = value;
    for (int lane = 0; lane < 32; lane++)
        if (there >> lane & 1) {
            T one = emu_value<T>(emu_value_of(lane));
            sum = first ? one : combine(sum, one), first = false;
        }
    return sum;
}
#define EMU_REDUCE(name, op, expression)                                                                   \
    template <class T> EMU_INLINE T name(unsigned mask, T value) {                                         \
        return emu_reduce(op, mask, value, [](T a, T b) { return (T)(expression); });                      \
    }
EMU_REDUCE(__reduce_add_sync, EMU_ADD, a + b)
EMU_REDUCE(__reduce_min_sync, EMU_LEAST, b < a ? b : a)
EMU_REDUCE(__reduce_max_sync, EMU_MOST, b > a ? b : a)
EMU_REDUCE(__reduce_and_sync, EMU_AND, a &b)
EMU_REDUCE(__reduce_or_sync, EMU_OR, a | b)
EMU_REDUCE(__reduce_xor_sync, EMU_EXCLUSIVE, a ^ b)
// The shuffles of before Volta took the lanes that happened to be together.
template <class T> EMU_INLINE T __shfl(T value, int lane, int width = 32) {
    return __shfl_sync(emu_sync_active(), value, lane, width);
}
template <class T> EMU_INLINE T __shfl_down(T value, unsigned by, int width = 32) {
    return __shfl_down_sync(emu_sync_active(), value, by, width);
}
template <class T> EMU_INLINE T __shfl_up(T value, unsigned by, int width = 32) {
    return __shfl_up_sync(emu_sync_active(), value, by, width);
}
template <class T> EMU_INLINE T __shfl_xor(T value, int by, int width = 32) {
    return __shfl_xor_sync(emu_sync_active(), value, by, width);
}
EMU_INLINE unsigned __ballot(int vote) { return __ballot_sync(emu_sync_active(), vote); }
EMU_INLINE int __any(int vote) { return __any_sync(emu_sync_active(), vote); }
EMU_INLINE int __all(int vote) { return __all_sync(emu_sync_active(), vote); }

#include "emulator_math.h"
#include "emulator_signature.h"
