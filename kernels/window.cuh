// Which positions a sliding window meets along one axis. Twin of minet/loops/window.py.
// The layer's window is compiled in: R S its size, SY SX the strides, PY PX the pads, DY DX the dilations.
#pragma once

struct Range {
    int first, end;
};

// The input positions inside both the image and the window of output p.
__device__ __forceinline__ Range span(int p, int window, int stride, int pad, int size) {
    int start = p * stride - pad;
    return {max(start, 0), min(start + window, size)};
}

// The outputs, out of `count`, with windows that hold input position h.
__device__ __forceinline__ Range covering(int h, int window, int stride, int pad, int count) {
    int beyond = h + pad - window + stride; // may be negative: no division then
    return {beyond > 0 ? beyond / stride : 0, min((h + pad) / stride + 1, count)};
}

// The first tap of a window that begins at `start` to lie inside the image.
__device__ __forceinline__ int first_inside(int start, int step) {
    return step == 1 ? max(-start, 0) : start < 0 ? (step - 1 - start) / step : 0;
}

// The window's taps, row by row, unrolled as far as registers hold what they read.
#define FOR_TAPS(r, s)                                                                                     \
    _Pragma("unroll AT_ONCE_R") for (int r = 0; r < R; r++)                                                \
    _Pragma("unroll AT_ONCE_S") for (int s = 0; s < S; s++)
constexpr int AT_ONCE_R = R * S <= 16 ? R : 1, AT_ONCE_S = S <= 16 ? S : 4;

// x at (h, w) of a plane, or `outside` in the padding.
__device__ __forceinline__ Samples tap(const float *plane, int h, int w, int n, int H, int W, int N,
                                       float outside) {
    bool there = h >= 0 && h < H && w >= 0 && w < W;
    return lanes(past(plane + (count_t)h * W * N, 4u * (w * N + n)), there, outside);
}

// The most windows that can hold one position, along each axis.
#define DEEP ((R + SY - 1) / SY)
#define BROAD ((S + SX - 1) / SX)
constexpr int DEEP_AT_ONCE = DEEP * BROAD <= 16 ? DEEP : 1, BROAD_AT_ONCE = BROAD <= 16 ? BROAD : 4;

// The nearest position inside the image.
__device__ __forceinline__ int within(int h, int size) { return min(max(h, 0), size - 1); }

// GPUs divide 64-bit numbers by a function, which is rarely needed.
__device__ __forceinline__ int quotient(unsigned long long whole, int by) {
    return (int)(whole >> 32 ? whole / by : (unsigned)whole / (unsigned)by);
}

// Where part number i of `parts` begins.
__device__ __forceinline__ int part(int i, int parts, int size) {
    return quotient((unsigned long long)size * i, parts);
}

// Shifts everything by one place; the newest goes first.
template <class T, int COUNT> __device__ __forceinline__ void push(T (&ring)[COUNT], T value) {
#pragma unroll
    for (int k = COUNT - 1; k > 0; k--) ring[k] = ring[k - 1];
    ring[0] = value;
}
