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
    int past = h + pad - window + stride; // may be negative: no division then
    return {past > 0 ? past / stride : 0, min((h + pad) / stride + 1, count)};
}

#ifdef TAP_T
typedef TAP_T tap_t; // holds a position r*S + s of the window, or R*S for none

// dx <- beta*dx + the dy of the windows that picked this position: a thread for each dx.
__device__ __forceinline__ void gather_picked(const float *dy, float *dx, const tap_t *picked, int C, int H, int W,
                                              int P, int Q, int N, float beta) {
    FOR_ROWS(row, (count_t)C * H) {
        int h = row % H;
        Range p = covering(h, R, SY, PY, P);
        count_t plane = (row / H) * P * Q * N;
        FOR_EACH(i, (count_t)W * N) {
            int w = i / N, n = i % N;
            Range q = covering(w, S, SX, PX, Q);
            float delta = 0;
            for (int pp = p.first; pp < p.end; pp++)
                for (int qq = q.first; qq < q.end; qq++) {
                    count_t at = plane + ((count_t)pp * Q + qq) * N + n;
                    int tap = (h - pp * SY + PY) * S + w - qq * SX + PX;
                    delta += picked[at] == tap ? dy[at] : 0.0f;
                }
            put(dx + row * W * N + i, delta, beta);
        }
    }
}
#endif
