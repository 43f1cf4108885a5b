// bprop of a pooling that picks one place of each window: max_pool.cu, and stochastic_pool.cu in training.
#pragma once
#include "window.cuh"

typedef TAP_T tap_t; // holds a position r*S + s of the window, or R*S for none

// dx <- beta*dx + the dy of the windows that picked this position: a thread per SX neighbours along W, in
// which the same windows begin, or per pixel if windows are spread; `across` threads cover a row.
__device__ __forceinline__ void gather_picked(const float *dy, float *dx, const tap_t *picked, int across, int C,
                                              int H, int W, int P, int Q, int N, float beta) {
    int groups = N / LANES;
    FOR_ROWS(row, (count_t)C * H) {
        int h = row % H;
        FOR_EACH(i, (count_t)across * groups) {
            int b = i / groups, n = i % groups * LANES;
#if DY > 1 || DX > 1
            Samples sum = {};
            for (int r = R - 1; r >= 0; r--)
                for (int s = S - 1; s >= 0; s--) {
                    int top = h + PY - r * DY, left = b + PX - s * DX; // of the window whose tap (r, s) is here
                    if (top < 0 || top % SY || top / SY >= P || left < 0 || left % SX || left / SX >= Q) continue;
                    count_t at = ((row / H * P + top / SY) * Q + left / SX) * N + n;
                    Lanes<tap_t> taps = *(const Lanes<tap_t> *)(picked + at);
                    Samples deltas = *(const Samples *)(dy + at);
                    EACH_LANE(l) sum.of[l] += taps.of[l] == r * S + s ? deltas.of[l] : 0.0f;
                }
            put(dx + (row * W + b) * N + n, sum, beta);
#else
            int last = (h + PY) / SY, lowest = (h + PY) % SY; // row `lowest` of window `last` is here
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
#endif
        }
    }
}
