// What cuda_fp16.h and cuda_bf16.h share.
#pragma once
// A double as a float, rounded to odd: to round that to 16 bits is to round the double once.
EMU_INLINE float emu_odd(double x) {
    float near = (float)x;
    if ((double)near == x || near != near) return near;
    unsigned bits = (unsigned)emu_bits(near);
    if (bits & 1) return near;
    bool too_large = near < 0 ? (double)near < x : (double)near > x;
    if (bits << 1 == 0) return emu_value<float>(x < 0 ? 0x80000001u : 1u);
    return emu_value<float>(too_large ? bits - 1 : bits + 1);
}
#define EMU_ODD emu_odd
