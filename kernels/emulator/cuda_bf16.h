// __nv_bfloat16 and __nv_bfloat162, computed in software: + - * / and sqrt are
// rounded correctly; exp, sin and the like are the C library's.
#pragma once
#pragma GCC system_header
#include "../emulator_round.h"

EMU_INLINE float emu_bfloat_to_float(unsigned short b) { return emu_value<float>((unsigned)b << 16); }
// What lies half way between two goes to the even one.
EMU_INLINE unsigned short emu_float_to_bfloat(float x) {
    unsigned bits = (unsigned)emu_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
#define HALF __nv_bfloat16
#define HALF2 __nv_bfloat162
#define EMU_WIDEN emu_bfloat_to_float
#define EMU_NARROW emu_float_to_bfloat
#include "../emulator_half.h"
#undef HALF
#undef HALF2
#undef EMU_WIDEN
#undef EMU_NARROW
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

EMU_INLINE __nv_bfloat16 __float2bfloat16(float x) { return x; }
EMU_INLINE __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
EMU_INLINE __nv_bfloat16 __double2bfloat16(double x) { return x; }
EMU_INLINE float __bfloat162float(__nv_bfloat16 x) { return x; }
EMU_INLINE __nv_bfloat162 __float2bfloat162_rn(float x) { return {x, x}; }
EMU_INLINE __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
EMU_INLINE __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
EMU_INLINE float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
EMU_INLINE __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
EMU_INLINE __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
EMU_INLINE __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
EMU_INLINE __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
EMU_INLINE __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
EMU_INLINE __nv_bfloat162 __low2bfloat162(__nv_bfloat162 v) { return {v.x, v.x}; }
EMU_INLINE __nv_bfloat162 __high2bfloat162(__nv_bfloat162 v) { return {v.y, v.y}; }
EMU_INLINE __nv_bfloat16 __int2bfloat16_rn(int x) { return x; }
EMU_INLINE int __bfloat162int_rn(__nv_bfloat16 x) { return (int)rintf(x); }
EMU_INLINE unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
EMU_INLINE __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return emu_value<__nv_bfloat16>(x); }
#define CUDART_INF_BF16 __ushort_as_bfloat16((unsigned short)0x7F80U)
#define CUDART_NAN_BF16 __ushort_as_bfloat16((unsigned short)0x7FFFU)
