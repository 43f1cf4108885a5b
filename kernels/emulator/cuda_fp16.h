// __half and __half2, computed in software: + - * / and sqrt are
// rounded correctly; exp, sin and the like are the C library's.
#pragma once
#pragma GCC system_header
#include "../emulator_round.h"

EMU_INLINE float emu_half_to_float(unsigned short h) {
    unsigned exponent = h >> 10 & 31, fraction = h & 1023u, sign = (unsigned)(h >> 15) << 31;
    if (exponent == 31) return emu_value<float>(sign | 0x7f800000u | fraction << 13);
    if (exponent) return emu_value<float>(sign | (exponent + 112) << 23 | fraction << 13);
    float small = (float)fraction * 0x1p-24f;
    return sign ? -small : small;
}
// What lies half way between two goes to the even one.
EMU_INLINE unsigned short emu_float_to_half(float x) {
    unsigned bits = (unsigned)emu_bits(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return 0x7fff;
    if (size >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);
    if (size < 0x38800000u) { // denormal: a multiple of 2^-24
        float steps = rintf(emu_value<float>(size) * 0x1p24f);
        return (unsigned short)(sign | (unsigned)steps);
    }
    return (unsigned short)(sign | ((size + 0xfffu + (size >> 13 & 1)) >> 13) - (112u << 10));
}
#define HALF __half
#define HALF2 __half2
#define EMU_WIDEN emu_half_to_float
#define EMU_NARROW emu_float_to_half
#include "../emulator_half.h"
#undef HALF
#undef HALF2
#undef EMU_WIDEN
#undef EMU_NARROW
typedef __half half;
typedef __half2 half2;
struct __half_raw { // its bits
    unsigned short x;
    EMU_INLINE operator __half() const { return emu_value<__half>(x); }
};

EMU_INLINE __half __float2half(float x) { return x; }
EMU_INLINE __half __float2half_rn(float x) { return x; }
EMU_INLINE __half __float2half_rz(float x) {
    __half near = x;
    return fabsf(near) > fabsf(x) && near == near ? emu_value<__half>(near.bits - 1u) : near;
}
EMU_INLINE __half __double2half(double x) { return x; }
EMU_INLINE float __half2float(__half x) { return x; }
EMU_INLINE __half2 __float2half2_rn(float x) { return {x, x}; }
EMU_INLINE __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
EMU_INLINE __half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
EMU_INLINE float2 __half22float2(__half2 v) { return {v.x, v.y}; }
EMU_INLINE __half2 __half2half2(__half x) { return {x, x}; }
EMU_INLINE __half2 __halves2half2(__half x, __half y) { return {x, y}; }
EMU_INLINE __half2 make_half2(__half x, __half y) { return {x, y}; }
EMU_INLINE __half __low2half(__half2 v) { return v.x; }
EMU_INLINE __half __high2half(__half2 v) { return v.y; }
EMU_INLINE __half __int2half_rn(int x) { return x; }
EMU_INLINE __half __uint2half_rn(unsigned x) { return x; }
EMU_INLINE __half __ushort2half_rn(unsigned short x) { return x; }
EMU_INLINE __half __short2half_rn(short x) { return x; }
EMU_INLINE int __half2int_rn(__half x) { return (int)rintf(x); }
EMU_INLINE int __half2int_rz(__half x) { return (int)(float)x; }
EMU_INLINE int __half2int_rd(__half x) { return (int)floorf(x); }
EMU_INLINE int __half2int_ru(__half x) { return (int)ceilf(x); }
EMU_INLINE unsigned __half2uint_rn(__half x) { return (unsigned)rintf(x); }
EMU_INLINE unsigned short __half_as_ushort(__half x) { return x.bits; }
EMU_INLINE short __half_as_short(__half x) { return (short)x.bits; }
EMU_INLINE __half __ushort_as_half(unsigned short x) { return emu_value<__half>(x); }
EMU_INLINE __half __short_as_half(short x) { return emu_value<__half>((unsigned short)x); }
#define CUDART_INF_FP16 __ushort_as_half((unsigned short)0x7C00U)
#define CUDART_NAN_FP16 __ushort_as_half((unsigned short)0x7FFFU)
#define CUDART_ONE_FP16 __ushort_as_half((unsigned short)0x3C00U)
#define CUDART_ZERO_FP16 __ushort_as_half((unsigned short)0x0000U)
#define CUDART_MAX_NORMAL_FP16 __ushort_as_half((unsigned short)0x7BFFU)
