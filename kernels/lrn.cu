// Local response normalisation across maps: y[c] = x[c] * s[c]**-power.
//
// s[c] = k + alpha * sum of x[j]**2 over the maps j = c - BACK .. c + AHEAD that exist, and
// dx[c] = dy[c] * s[c]**-power - 2*alpha*power * x[c] * sum of dy[j]*x[j]*s[j]**(-power-1) over the maps j whose
// windows hold c. Here alpha is the layer's, divided by SIZE. Maps that do not exist count as 0.
//
// Order:   (C, M) with M = H*W*N.
// Threads: one per LANES neighbouring columns m and slab of maps, a warp along m. It marches over the slab's maps
//          and the few around them, in steps of TOGETHER maps whose loads are under way at once, and keeps a
//          window's contents in registers: nothing is read twice except at the slabs' borders. Each sum is
//          recomputed from its first map to its last: a running sum would drift.
// Bits:    products and sums are rounded as written, __fmul_rn and __fmaf_rn: left to the compiler, the maps of a
//          step would be rounded in different ways, and slabs would change bits.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0; what slabs read twice comes from cache.
// Source:  Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", NIPS 2012,
//          section 3.3, with alpha divided by size as in Caffe and PyTorch.
#include "minet.cuh"

// The maps of a window before and after its own.
#define BACK (SIZE / 2)
#define AHEAD ((SIZE - 1) / 2)

// Slab number `slab` of `slabs` ends before this map.
__device__ __forceinline__ int slab_end(int slab, int slabs, int C) {
    return (int)((long long)C * (slab + 1) / slabs);
}

// Shifts everything by one map; the newest goes last.
template <int COUNT> __device__ __forceinline__ void push(Samples (&ring)[COUNT], Samples value) {
#pragma unroll
    for (int i = 0; i + 1 < COUNT; i++) ring[i] = ring[i + 1];
    ring[COUNT - 1] = value;
}

// Map c of a column, or zeros if it does not exist.
__device__ __forceinline__ Samples map(const float *column, int c, int end, count_t M) {
    bool there = c >= 0 && c < end;
    return lanes(column + (there ? c : 0) * M, there, 0.0f);
}

// s**-power and 1 / s of the window of maps that begins with x[0], for lane l; the usual power needs only two roots.
struct Powers {
    float own, one;
};
__device__ __forceinline__ Powers powers(const Samples *x, int l, float alpha, float power, float k) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < SIZE; i++) squares = __fmaf_rn(x[i].of[l], x[i].of[l], squares);
    float s = __fmaf_rn(alpha, squares, k);
    if (s == INFINITY) { // of finite numbers, a y of 0 would hide it
        bool finite = true;
#pragma unroll
        for (int i = 0; i < SIZE; i++) finite = finite && is_finite(x[i].of[l]);
        if (finite) return {NAN, NAN};
    }
#if THREE_QUARTERS
    float root = __frsqrt_rn(s);
    return {__fmul_rn(root, sqrtf(root)), __fmul_rn(root, root)};
#else
    return {powf(s, -power), 1 / s};
#endif
}

extern "C" __global__ void lrn_fprop(const float *x, float *y, float alpha, float power, float k, int slabs, int C,
                                     int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(slab, slabs) {
        int begin = slab_end(slab - 1, slabs, C), end = slab_end(slab, slabs, C);
        FOR_EACH(i, M / LANES) {
            count_t m = i * LANES;
            Samples of_x[SIZE] = {};
            for (int first = begin - BACK; first < end + AHEAD; first += TOGETHER) {
                Samples next[TOGETHER];
#pragma unroll
                for (int t = 0; t < TOGETHER; t++) next[t] = map(x + m, first + t, min(C, end + AHEAD), M);
#pragma unroll
                for (int t = 0; t < TOGETHER; t++) {
                    push(of_x, next[t]);
                    int c = first + t - AHEAD;
                    if (c < begin || c >= end) continue;
                    Samples value;
                    EACH_LANE(l) value.of[l] = __fmul_rn(of_x[BACK].of[l], powers(of_x, l, alpha, power, k).own);
                    put(y + c * M + m, value, beta);
                }
            }
        }
    }
}

// The dx of a map waits for the shares of the AHEAD maps before it and the BACK maps after it.
extern "C" __global__ void lrn_bprop(const float *x, const float *dy, float *dx, float alpha, float power, float k,
                                     int slabs, int C, int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    float factor = -2 * alpha * power;
    FOR_ROWS(slab, slabs) {
        int begin = slab_end(slab - 1, slabs, C), end = slab_end(slab, slabs, C);
        FOR_EACH(i, M / LANES) {
            count_t m = i * LANES;
            Samples of_x[SIZE] = {}, shares[SIZE] = {}, own[BACK + 1] = {};
            for (int first = begin - AHEAD - BACK; first < end + BACK + AHEAD; first += TOGETHER) {
                Samples next[TOGETHER], delta[TOGETHER];
#pragma unroll
                for (int t = 0; t < TOGETHER; t++) {
                    next[t] = map(x + m, first + t, min(C, end + BACK + AHEAD), M);
                    delta[t] = map(dy + m, first + t - AHEAD, min(C, end + BACK), M); // whose window is complete
                }
#pragma unroll
                for (int t = 0; t < TOGETHER; t++) {
                    push(of_x, next[t]);
                    Samples share;
                    EACH_LANE(l) {
                        Powers of_s = powers(of_x, l, alpha, power, k);
                        delta[t].of[l] = __fmul_rn(delta[t].of[l], of_s.own);
                        share.of[l] = __fmul_rn(__fmul_rn(delta[t].of[l], of_x[BACK].of[l]), of_s.one);
                    }
                    push(own, delta[t]);
                    push(shares, share);
                    int c = first + t - AHEAD - BACK; // all windows that hold it are complete
                    if (c < begin || c >= end) continue;
                    Samples value;
                    EACH_LANE(l) {
                        float total = 0;
#pragma unroll
                        for (int i = 0; i < SIZE; i++) total += shares[i].of[l];
                        value.of[l] = __fmaf_rn(__fmul_rn(factor, of_x[0].of[l]), total, own[0].of[l]);
                    }
                    put(dx + c * M + m, value, beta);
                }
            }
        }
    }
}
