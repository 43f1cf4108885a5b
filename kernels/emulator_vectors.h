// The vector types that minet's own kernels do without, and dim3 with its constructors; part of emulator.h.
#pragma once
EMU_VECTORS(short, short, 2)
EMU_VECTORS(unsigned short, ushort, 2)
EMU_VECTORS(long, long, 8)
EMU_VECTORS(unsigned long, ulong, 8)
EMU_VECTORS(long long, longlong, 8)
EMU_VECTORS(unsigned long long, ulonglong, 8)
#define EMU_VECTOR1(type, name)                                                                            \
    struct name##1 { type x; };                                                                            \
    static inline name##1 make_##name##1(type x) { return {x}; }
EMU_VECTOR1(signed char, char)
EMU_VECTOR1(unsigned char, uchar)
EMU_VECTOR1(short, short)
EMU_VECTOR1(unsigned short, ushort)
EMU_VECTOR1(int, int)
EMU_VECTOR1(unsigned, uint)
EMU_VECTOR1(long, long)
EMU_VECTOR1(unsigned long, ulong)
EMU_VECTOR1(long long, longlong)
EMU_VECTOR1(unsigned long long, ulonglong)
EMU_VECTOR1(float, float)
EMU_VECTOR1(double, double)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};
