// Convolution in groups of few maps, depthwise above all, directly: each output is a sum over its window's taps.
//
//   fprop   y[k, p, q, n]  <- beta*y + bias[k] + sum over j, r, s of w[k, j, r, s] * x[c, h, w, n]
//   dx      dx[c, h, w, n] <- beta*dx + sum over the group's k, r, s of w[k, j, r, s] * dy[k, p, q, n]
//   dw      part[k, j, r, s, z] <- sum over the positions (p, q, n) of share z of dy[k, p, q, n] * x[c, h, w, n]
//           where c = g*CG + j, k is one of g*KG .. (g+1)*KG - 1, h = p*SY - PY + r*DY, and w likewise from q and s;
//           nothing where h or w is in the padding
//
// Order:   images (C, H, W, N), w (K, CG, R, S). A sum goes along each row of the window, then adds up the rows.
// Threads: fprop one per LANES samples of an output, a row of blocks per (k, p); dx likewise, it gathers. dw a block
//          per (k, j, r) and share of `share` pixels (p, q); the caller adds up the shares, in their order.
// Bytes:   4 written per y or dx; x and dy from cache, once for each tap; dw reads dy CG*R times, 4 written per part.
// Limits:  any window, stride, pad, dilation and N.
// Source:  textbook.
#include "minet.cuh"
#include "window.cuh"

extern "C" __global__ void conv_depthwise_fprop(const float *__restrict__ x, const float *__restrict__ w,
                                                const float *__restrict__ bias, float *y, int C, int H, int W, int K,
                                                int P, int Q, int N, int CG, int KG, float beta) {
    FOR_ROWS(row, (count_t)K * P) {
        int k = row / P, top = (int)(row % P) * SY - PY;
        FOR_EACH(i, (count_t)Q * N / LANES) {
            int q = i * LANES / N, n = i * LANES % N, left = q * SX - PX;
            Samples total;
            EACH_LANE(l) total.of[l] = bias ? bias[k] : 0;
            for (int j = 0; j < CG; j++) {
                const float *plane = x + (count_t)(k / KG * CG + j) * H * W * N;
                const float *weights = w + ((count_t)k * CG + j) * R * S;
                _Pragma("unroll AT_ONCE_R") for (int r = 0; r < R; r++) {
                    Samples sum = {};
                    int h = top + r * DY;
                    if (h < 0 || h >= H) continue;
                    _Pragma("unroll AT_ONCE_S") for (int s = 0; s < S; s++) {
                        int at = left + s * DX;
                        if (at < 0 || at >= W) continue;
                        Samples value = *(const Samples *)(plane + ((count_t)h * W + at) * N + n);
                        EACH_LANE(l) sum.of[l] += weights[r * S + s] * value.of[l];
                    }
                    EACH_LANE(l) total.of[l] += sum.of[l];
                }
            }
            put(y + row * Q * N + (count_t)i * LANES, total, beta);
        }
    }
}

// The output whose tap r meets position h, if there is one.
__device__ __forceinline__ bool meeting(int h, int r, int stride, int pad, int step, int count, int &p) {
    int at = h + pad - r * step;
    p = at / stride;
    return at >= 0 && at % stride == 0 && p < count;
}

extern "C" __global__ void conv_depthwise_dx(const float *__restrict__ dy, const float *__restrict__ w, float *dx,
                                             int C, int H, int W, int K, int P, int Q, int N, int CG, int KG,
                                             float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        int c = row / H, h = row % H;
        FOR_EACH(i, (count_t)W * N / LANES) {
            int column = i * LANES / N, n = i * LANES % N;
            Samples total = {};
            for (int k = c / CG * KG; k < c / CG * KG + KG; k++) {
                const float *plane = dy + (count_t)k * P * Q * N;
                const float *weights = w + ((count_t)k * CG + c % CG) * R * S;
                _Pragma("unroll AT_ONCE_R") for (int r = 0; r < R; r++) {
                    Samples sum = {};
                    int p, q;
                    if (!meeting(h, r, SY, PY, DY, P, p)) continue;
                    _Pragma("unroll AT_ONCE_S") for (int s = 0; s < S; s++) {
                        if (!meeting(column, s, SX, PX, DX, Q, q)) continue;
                        Samples value = *(const Samples *)(plane + ((count_t)p * Q + q) * N + n);
                        EACH_LANE(l) sum.of[l] += weights[r * S + s] * value.of[l];
                    }
                    EACH_LANE(l) total.of[l] += sum.of[l];
                }
            }
            put(dx + row * W * N + (count_t)i * LANES, total, beta);
        }
    }
}

constexpr int TAPS = S <= 8 ? S : 8; // of a row of the window, whose sums a thread has at once

extern "C" __global__ void conv_depthwise_dw(const float *__restrict__ x, const float *__restrict__ dy, float *part,
                                             int C, int H, int W, int K, int P, int Q, int N, int CG, int KG,
                                             int share) {
    count_t begin = blockIdx.x * (count_t)share * N, end = min(begin + (count_t)share * N, (count_t)P * Q * N);
    FOR_ROWS(row, (count_t)K * CG * R) {
        int r = row % R, k = row / R / CG, j = row / R % CG;
        const float *plane = x + (count_t)(k / KG * CG + j) * H * W * N, *deltas = dy + (count_t)k * P * Q * N;
        for (int s0 = 0; s0 < S; s0 += TAPS) {
            float sum[TAPS] = {};
            for (count_t i = begin + threadIdx.x * LANES; i < end; i += blockDim.x * LANES) {
                int n = i % N, pixel = i / N, h = pixel / Q * SY - PY + r * DY, left = pixel % Q * SX - PX + s0 * DX;
                if (h < 0 || h >= H) continue;
                Samples delta = *(const Samples *)(deltas + i);
#pragma unroll
                for (int s = 0; s < TAPS; s++) {
                    int at = left + s * DX;
                    if (at < 0 || at >= W || s0 + s >= S) continue;
                    Samples value = *(const Samples *)(plane + ((count_t)h * W + at) * N + n);
                    float product = 0;
                    EACH_LANE(l) product += delta.of[l] * value.of[l];
                    sum[s] += product;
                }
            }
#pragma unroll
            for (int s = 0; s < TAPS; s++) {
                float total = block_sum(sum[s]);
                if (threadIdx.x == 0 && s0 + s < S) part[(row * S + s0 + s) * gridDim.x + blockIdx.x] = total;
            }
        }
    }
}
