// Windows unrolled into the columns of a matrix, so that a convolution is a matrix product, and back.
//
//   im2col   col[(c, r, s), (p - p0, q, n)] <- image[c, h, w, n], or 0 in the padding
//   col2im   image[c, h, w, n] <- beta * image[c, h, w, n] + sum of col[(c, r, s), (p - p0, q, n)]
//   where h = p*SY - PY + r*DY for p in p0 .. p1-1, and w likewise from q and s
//
// Order:   image (C, H, W, N), col (C, R, S, p1 - p0, Q, N). col2im gathers in the order r, s.
// Threads: one per element written, a warp along n, a row of blocks per (c, r, s, p) of col or (c, h) of the
//          image, so what does not depend on w and n is computed once per block.
// Bytes:   im2col writes 4 per element of col and reads 4, each pixel R*S times, mostly from cache; col2im
//          reads 4 per element of col and writes 4 per pixel, which it also reads if beta is not 0.
// Twin:    minet/loops/conv/im2col.py.
// Source:  Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing",
//          2006.
#include "minet.cuh"

extern "C" __global__ void im2col(const float *image, float *col, int C, int H, int W, int N, int P, int Q, int p0,
                                  int p1) {
    int count = p1 - p0;
    FOR_ROWS(row, (count_t)C * R * S * count) {
        int p = p0 + row % count, tap = row / count % (R * S);
        int h = p * SY - PY + tap / S * DY, left = tap % S * DX - PX;
        const float *from = image + (row / count / (R * S) * H + h) * W * N; // invalid if h is in the padding
        FOR_EACH(i, (count_t)Q * N) {
            int q = i / N, w = q * SX + left;
            bool inside = h >= 0 && h < H && w >= 0 && w < W;
            col[row * Q * N + i] = inside ? from[(count_t)w * N + i - (count_t)q * N] : 0;
        }
    }
}

extern "C" __global__ void col2im(float *image, const float *col, int C, int H, int W, int N, int P, int Q, int p0,
                                  int p1, float beta) {
    // Rows of the image from `fresh` on are reached for the first time and take beta; earlier rows only add.
    int reach = DY * (R - 1) + 1 - PY, count = p1 - p0;
    int fresh = p0 == 0 ? 0 : min(H, max(0, (p0 - 1) * SY + reach));
    int end = p1 == P ? H : min(H, max(0, (p1 - 1) * SY + reach));
    int first = min(fresh, max(0, p0 * SY - PY));
    FOR_ROWS(row, (count_t)C * H) {
        int h = row % H;
        if (h < first || h >= end) continue;
        const float *taps = col + row / H * (R * S) * count * Q * N;
        FOR_EACH(i, (count_t)W * N) {
            int w = i / N, n = i % N;
            float total = 0;
            for (int r = 0; r < R; r++) {
                int down = h + PY - r * DY, p = down / SY;
                if (down < 0 || p * SY != down || p < p0 || p >= p1) continue;
                for (int s = 0; s < S; s++) {
                    int along = w + PX - s * DX, q = along / SX;
                    if (along < 0 || q * SX != along || q >= Q) continue;
                    total += taps[(((count_t)(r * S + s) * count + p - p0) * Q + q) * N + n];
                }
            }
            put(image + row * W * N + i, total, h >= fresh ? beta : 1);
        }
    }
}
