// Weights as conv_gather reads them: its maps m innermost, zeros up to a multiple of 4.
//
//   wt[c, r, s, m] <- w[m, c, r, s] for fprop, w[c, m, r, s] for dx, of each group
//
// `step_c` and `step_m` lead from one map to the next in w. Thread number `thread` of `threads` takes its share.
#pragma once
#include "minet.cuh"

__device__ __forceinline__ void turn(const float *w, float *wt, int C, int M, int taps, int groups, index_t step_c,
                                     index_t step_m, count_t thread, count_t threads) {
    int lines = (M + 3) / 4 * 4;
    for (count_t i = thread; i < (count_t)C * groups * taps * lines; i += threads) {
        int m = i % lines, tap = i / lines % taps, row = i / lines / taps, c = row % C;
        const float *from = w + (count_t)(row - c) * M * taps; // of the group
        wt[i] = m < M ? from[c * (count_t)step_c + m * (count_t)step_m + tap] : 0.0f;
    }
}
