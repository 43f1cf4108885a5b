// The CUDA that kernels are written in, for a host compiler: without a GPU minet compiles .cu files after
// this header, to test kernels, never to train. emulator.cpp runs the threads; minet/backends/emulator.py
// compiles and launches. Each thread of a block is a fiber, which yields to the others only at barriers.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>

#if !defined EMU_ANY || defined EMU_LAYER // in others' files they stay until minet/emulator/source.py has read them
#define __global__
#define __device__ __attribute__((visibility("hidden"))) // not static: members could not be
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#endif
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// All shared memory is in one place, so that the runtime can find it: in thread_local variables of one host
// thread; under AddressSanitizer, which does not guard those, in a section.
#if defined EMU_ANY && !defined EMU_LAYER
#elif defined EMU_ASAN
#define __shared__ static __attribute__((section("emu_shared"), used))
#else
#define __shared__ static thread_local __attribute__((used)) // not taken for zeros if no code writes it
#endif

#ifndef EMU_ANY
struct dim3 { unsigned x, y, z; };
#endif
#define EMU_VECTORS(type, name, bytes)                                                                     \
    struct alignas(2 * bytes) name##2 { type x, y; };                                                      \
    struct name##3 { type x, y, z; };                                                                      \
    struct alignas(4 * bytes > 16 ? 16 : 4 * bytes) name##4 { type x, y, z, w; };                          \
    static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                \
    static inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                     \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMU_VECTORS(unsigned, uint, 4)
EMU_VECTORS(float, float, 4)
EMU_VECTORS(double, double, 8)
EMU_VECTORS(int, int, 4)
EMU_VECTORS(unsigned char, uchar, 1)
EMU_VECTORS(signed char, char, 1)
#ifdef EMU_ANY
#include "emulator_vectors.h"
#endif

// -- what the runtime provides -------------------------------------------------------------------------

struct EmuThread { uint3 thread, block; };
#define EMU_OURS __attribute__((visibility("hidden")))
extern "C" {
EMU_OURS extern const EmuThread emu_now; // const: within a thread they never change
EMU_OURS extern const dim3 emu_grid, emu_block;
void emu_sync_block(unsigned long long vote, unsigned long long *sum, unsigned line);
unsigned emu_sync_warp(unsigned op, unsigned mask, unsigned long long value);
unsigned long long emu_value_of(int lane);
unsigned long long emu_absent();
int emu_lane();
void *emu_dynamic_shared();
void emu_fence();
void emu_atomic(void *at, unsigned bytes, int reads, void *code);
void emu_copy(void *to, const void *from, unsigned bytes, unsigned zeros);
void emu_commit();
void emu_wait(unsigned left);
[[noreturn]] void emu_stop(const char *what);
int emu_run(void *launch, void (*body)(const char *), char *shared_start, char *shared_stop);
extern char __start_emu_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emu_shared[] __attribute__((weak, visibility("hidden")));
}
#define threadIdx (emu_now.thread)
#define blockIdx (emu_now.block)
#define blockDim emu_block
#define gridDim emu_grid
#define warpSize 32
#define __trap() emu_stop("__trap()")
#define __assert_fail emu_assert_fail // what assert() of <cassert> calls

template <class T> inline unsigned long long emu_bits(T value) {
    static_assert(sizeof(T) <= 8, "the emulator shuffles values of up to 8 bytes");
    unsigned long long bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}
template <class T> inline T emu_value(unsigned long long bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
#define EMU_INLINE inline __attribute__((always_inline))

EMU_INLINE int emu_count(int vote, unsigned line) {
    unsigned long long sum;
    emu_sync_block(vote != 0, &sum, line);
    return (int)sum;
}
#define __syncthreads() emu_sync_block(0, nullptr, __LINE__)
#define __syncthreads_count(vote) emu_count(vote, __LINE__)
#define __syncthreads_or(vote) (emu_count(vote, __LINE__) != 0)
#define __syncthreads_and(vote) (emu_count(!(vote), __LINE__) == 0)

enum { EMU_SYNC, EMU_SHFL, EMU_DOWN, EMU_UP, EMU_XOR, EMU_VOTE };
EMU_INLINE void __syncwarp(unsigned mask = 0xffffffffu) { emu_sync_warp(EMU_SYNC, mask, 0); }
// The value of lane `from`; its own outside lowest .. end-1; noise if that lane has not come.
template <class T>
EMU_INLINE T emu_shuffle(unsigned op, unsigned mask, T value, int from, int lowest, int end) {
    unsigned there = emu_sync_warp(op, mask, emu_bits(value));
    if (from < lowest || from >= end) return value;
    return emu_value<T>(there >> from & 1 ? emu_value_of(from) : emu_absent());
}
template <class T> EMU_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    int lowest = emu_lane() / width * width;
    return emu_shuffle(EMU_SHFL, mask, value, lowest + (lane & (width - 1)), lowest, lowest + width);
}
template <class T> EMU_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    int lowest = emu_lane() / width * width;
    return emu_shuffle(EMU_DOWN, mask, value, emu_lane() + (int)by, lowest, lowest + width);
}
template <class T> EMU_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    int lowest = emu_lane() / width * width;
    return emu_shuffle(EMU_UP, mask, value, emu_lane() - (int)by, lowest, lowest + width);
}
template <class T> EMU_INLINE T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32) {
    int end = emu_lane() / width * width + width; // earlier segments may be read, later ones not
    return emu_shuffle(EMU_XOR, mask, value, emu_lane() ^ by, 0, end);
}
EMU_INLINE unsigned __ballot_sync(unsigned mask, int vote) {
    unsigned there = emu_sync_warp(EMU_VOTE, mask, vote != 0), ballot = 0;
    for (int lane = 0; lane < 32; lane++)
        if (there >> lane & 1) ballot |= (unsigned)emu_value_of(lane) << lane;
    return ballot;
}
EMU_INLINE int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
EMU_INLINE int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, !vote) == 0; }

// -- atomics: one fiber runs at a time ------------------------------------------------------------------

template <class T> struct EmuSame { typedef T type; }; // a value is converted to the type of its place
#define EMU_APART __attribute__((noinline, no_sanitize("thread", "undefined"))) // it is the caller's access
#define EMU_ATOMIC(name, reads, expression)                                                                \
    template <class T> EMU_APART T name(T *at, typename EmuSame<T>::type value) {                          \
        emu_atomic((void *)at, sizeof(T), reads, __builtin_return_address(0));                             \
        T old = *at;                                                                                       \
        *at = (expression);                                                                                \
        return old;                                                                                        \
    }
EMU_ATOMIC(atomicAdd, 1, old + value)
EMU_ATOMIC(atomicSub, 1, old - value)
EMU_ATOMIC(atomicMin, 1, value < old ? value : old)
EMU_ATOMIC(atomicMax, 1, value > old ? value : old)
EMU_ATOMIC(atomicInc, 1, old >= value ? 0 : old + 1)
EMU_ATOMIC(atomicDec, 1, old == 0 || old > value ? value : old - 1)
EMU_ATOMIC(atomicAnd, 1, old & value)
EMU_ATOMIC(atomicOr, 1, old | value)
EMU_ATOMIC(atomicXor, 1, old ^ value)
EMU_ATOMIC(atomicExch, 0, value)
template <class T>
EMU_APART T atomicCAS(T *at, typename EmuSame<T>::type expected, typename EmuSame<T>::type value) {
    emu_atomic((void *)at, sizeof(T), 1, __builtin_return_address(0));
    T old = *at;
    if (old == expected) *at = value;
    return old;
}
EMU_INLINE void __threadfence() { emu_fence(); }
EMU_INLINE void __threadfence_block() {}

// -- copies into shared memory that do not wait ----------------------------------------------------------

EMU_INLINE void __pipeline_memcpy_async(void *to, const void *from, std::size_t bytes, std::size_t zeros = 0) {
    emu_copy(to, from, (unsigned)bytes, (unsigned)zeros);
}
EMU_INLINE void __pipeline_commit() { emu_commit(); }
EMU_INLINE void __pipeline_wait_prior(std::size_t left) { emu_wait((unsigned)left); }

// -- arithmetic -------------------------------------------------------------------------------------------

template <class T> EMU_INLINE T __ldg(const T *at) { return *at; }
#define EMU_MIN_MAX(type)                                                                                  \
    EMU_INLINE type min(type a, type b) { return a < b ? a : b; }                                          \
    EMU_INLINE type max(type a, type b) { return a > b ? a : b; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
EMU_INLINE unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
EMU_INLINE unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
EMU_INLINE unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
EMU_INLINE unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
EMU_INLINE float min(float a, float b) { return fminf(a, b); }
EMU_INLINE float max(float a, float b) { return fmaxf(a, b); }
EMU_INLINE double min(double a, double b) { return fmin(a, b); }
EMU_INLINE double max(double a, double b) { return fmax(a, b); }
EMU_INLINE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
EMU_INLINE double rsqrt(double x) { return 1.0 / std::sqrt(x); }
EMU_INLINE float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
EMU_INLINE float __expf(float x) { return expf(x); }
EMU_INLINE float __exp10f(float x) { return powf(10.0f, x); }
EMU_INLINE float __logf(float x) { return logf(x); }
EMU_INLINE float __log2f(float x) { return log2f(x); }
EMU_INLINE float __sinf(float x) { return sinf(x); }
EMU_INLINE float __cosf(float x) { return cosf(x); }
EMU_INLINE float __powf(float x, float y) { return powf(x, y); }
EMU_INLINE float __fdividef(float x, float y) { return x / y; }
EMU_INLINE float __fdiv_rn(float x, float y) { return x / y; }
EMU_INLINE float __fadd_rn(float a, float b) { return a + b; }
EMU_INLINE float __fsub_rn(float a, float b) { return a - b; }
EMU_INLINE float __fmul_rn(float a, float b) { return a * b; }
EMU_INLINE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
EMU_INLINE float __frcp_rn(float x) { return 1.0f / x; }
EMU_INLINE float __fsqrt_rn(float x) { return sqrtf(x); }
EMU_INLINE float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
EMU_INLINE int __float2int_rn(float x) { return (int)rintf(x); }
EMU_INLINE int __float2int_rz(float x) { return (int)x; }
EMU_INLINE int __float2int_rd(float x) { return (int)floorf(x); }
EMU_INLINE int __float2int_ru(float x) { return (int)ceilf(x); }
EMU_INLINE float __int2float_rn(int x) { return (float)x; }
EMU_INLINE float __uint2float_rn(unsigned x) { return (float)x; }
EMU_INLINE unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
EMU_INLINE int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
EMU_INLINE unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
EMU_INLINE int __float_as_int(float x) { return emu_value<int>(emu_bits(x)); }
EMU_INLINE float __int_as_float(int x) { return emu_value<float>(emu_bits(x)); }
EMU_INLINE unsigned __float_as_uint(float x) { return emu_value<unsigned>(emu_bits(x)); }
EMU_INLINE float __uint_as_float(unsigned x) { return emu_value<float>(emu_bits(x)); }
EMU_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
EMU_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMU_INLINE int __ffs(int x) { return __builtin_ffs(x); }
EMU_INLINE int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
EMU_INLINE int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }

// -- a kernel as the runtime calls it: its arguments packed one after another, each aligned ----------------

// Accesses here are not the kernel's, so they are compiled without the hooks.
template <class T> __attribute__((no_sanitize("thread"))) T emu_take(const char *args, std::size_t &at) {
    at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
    T value;
    std::memcpy(&value, args + at, sizeof value);
    at += sizeof value;
    return value;
}
template <class... T>
__attribute__((no_sanitize("thread"))) void emu_call(void (*kernel)(T...), const char *args) {
    std::size_t at = 0;
    std::tuple<T...> values{emu_take<T>(args, at)...};
    std::apply(kernel, values);
}
#ifdef EMU_ASAN
#define EMU_SHARED_ENDS __start_emu_shared, __stop_emu_shared
#else
static thread_local char emu_mark; // its use makes the host thread allocate its thread_local variables
#define EMU_SHARED_ENDS &emu_mark, &emu_mark
#endif
// Appended after the .cu file for each of its kernels.
#define EMU_KERNEL(kernel)                                                                                 \
    static void emu_body_##kernel(const char *args) { emu_call(kernel, args); }                            \
    extern "C" int emu_##kernel(void *launch) { return emu_run(launch, emu_body_##kernel, EMU_SHARED_ENDS); }
