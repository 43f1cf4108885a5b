// Which positions a sliding window meets along one axis. Twin of window.py.
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

// The outputs, of `count`, whose windows hold input position h.
__device__ __forceinline__ Range covering(int h, int window, int stride, int pad, int count) {
    int beyond = h + pad - window + stride; // may be negative: no division then
    return {beyond > 0 ? beyond / stride : 0, min((h + pad) / stride + 1, count)};
}

// The window's taps, row by row, unrolled as far as registers hold what they read.
#define FOR_TAPS(r, s)                                                                                     \
    _Pragma("unroll AT_ONCE_R") for (int r = 0; r < R; r++)                                                \
    _Pragma("unroll AT_ONCE_S") for (int s = 0; s < S; s++)
constexpr int AT_ONCE_R = R * S <= 16 ? R : 1, AT_ONCE_S = S <= 16 ? S : 4;

// x at (h, w) of a plane, or `outside`.
__device__ __forceinline__ Samples tap(const float *plane, int h, int w, int n, int H, int W, int N,
                                       float outside) {
    bool there = h >= 0 && h < H && w >= 0 && w < W;
    return lanes(past(plane + (count_t)h * W * N, 4u * (w * N + n)), there, outside);
}

// As many windows may hold one position, along each axis.
#define DEEP ((R + SY - 1) / SY)
#define BROAD ((S + SX - 1) / SX)
constexpr int DEEP_AT_ONCE = DEEP * BROAD <= 16 ? DEEP : 1, BROAD_AT_ONCE = BROAD <= 16 ? BROAD : 4;

// The position inside the image that is nearest.
__device__ __forceinline__ int within(int h, int size) { return min(max(h, 0), size - 1); }

// Where part number i of `parts` begins.
__device__ __forceinline__ int part(int i, int parts, int size) { return (int)((long long)size * i / parts); }

// Everything one place on; the first place takes the newest.
template <class T, int COUNT> __device__ __forceinline__ void push(T (&ring)[COUNT], T value) {
#pragma unroll
    for (int k = COUNT - 1; k > 0; k--) ring[k] = ring[k - 1];
    ring[0] = value;
}

#ifdef TAP_T
typedef TAP_T tap_t; // holds a position r*S + s of the window, or R*S for none

// dx <- beta*dx + the dy of the windows that picked this position: a thread for SX neighbours along W, which are
// those that the same windows begin with; `across` of them cover a row.
__device__ __forceinline__ void gather_picked(const float *dy, float *dx, const tap_t *picked, int across, int C,
                                              int H, int W, int P, int Q, int N, float beta) {
    int groups = N / LANES;
    FOR_ROWS(row, (count_t)C * H) {
        int h = row % H, last = (h + PY) / SY, lowest = (h + PY) % SY; // row `lowest` of window `last` is here
        FOR_EACH(i, (count_t)across * groups) {
            int b = i / groups, n = i % groups * LANES;
            float delta[SX][LANES] = {};
#pragma unroll DEEP_AT_ONCE
            for (int k = DEEP - 1; k >= 0; k--)
#pragma unroll BROAD_AT_ONCE
                for (int j = BROAD - 1; j >= 0; j--) {
                    int p = last - k, q = b - j, r = lowest + k * SY;
                    bool there = r < R && p >= 0 && p < P && q >= 0 && q < Q;
                    count_t line = (row / H * P + p) * Q * N;
                    unsigned at = q * N + n;
                    Lanes<tap_t> taps = lanes(past(picked + line, (unsigned)sizeof(tap_t) * at), there, (tap_t)0);
                    Samples deltas = lanes(past(dy + line, 4u * at), there, 0.0f);
#pragma unroll
                    for (int d = 0; d < SX; d++)
                        if (j * SX + d < S)
                            EACH_LANE(l) delta[d][l] += taps.of[l] == r * S + j * SX + d ? deltas.of[l] : 0.0f;
                }
#pragma unroll
            for (int d = 0; d < SX; d++) {
                int w = b * SX - PX + d;
                Samples sum;
                EACH_LANE(l) sum.of[l] = delta[d][l];
                if (w >= 0 && w < W) put(past(dx + row * W * N, 4u * (w * N + n)), sum, beta);
            }
        }
    }
}
#endif
