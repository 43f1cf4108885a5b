// Local response normalisation across maps: y[c] = x[c] * s[c]**-power.
//
// s[c] = k + alpha * sum of x[j]**2 over the maps j = c - BACK .. c + AHEAD that exist, and
// dx[c] = dy[c] * s[c]**-power - 2*alpha*power * x[c] * sum of dy[j]*x[j]*s[j]**(-power-1) over the maps j whose
// windows hold c. Here alpha is the layer's, divided by SIZE. Maps that do not exist count as 0.
//
// Order:   (C, M) with M = H*W*N.
// Threads: one per column m and slab of maps, a warp along m. It marches over the slab's maps and the few
//          around them, and keeps a window's contents in registers: nothing is read twice except at the
//          slabs' borders. Each sum is recomputed from its first map to its last: a running sum would drift.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0; a slab of 4*SIZE maps adds a
//          quarter to what is read, most of it from cache.
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
template <int COUNT> __device__ __forceinline__ void push(float (&ring)[COUNT], float value) {
#pragma unroll
    for (int i = 0; i + 1 < COUNT; i++) ring[i] = ring[i + 1];
    ring[COUNT - 1] = value;
}

__device__ __forceinline__ float scale_of(const float (&x)[SIZE], float alpha, float k) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < SIZE; i++) squares += x[i] * x[i];
    return k + alpha * squares;
}

// s**-power; the usual power needs only two roots.
__device__ __forceinline__ float inverse_power(float s, float power) {
#if THREE_QUARTERS
    float root = sqrtf(s);
    return 1 / (root * sqrtf(root));
#else
    return powf(s, -power);
#endif
}

extern "C" __global__ void lrn_fprop(const float *x, float *y, float alpha, float power, float k, int slabs, int C,
                                     int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(slab, slabs) {
        int begin = slab_end(slab - 1, slabs, C), end = slab_end(slab, slabs, C);
        FOR_EACH(m, M) {
            float of_x[SIZE] = {};
            for (int newest = begin - BACK; newest < end + AHEAD; newest++) {
                push(of_x, newest >= 0 && newest < C ? x[newest * M + m] : 0);
                int c = newest - AHEAD;
                if (c < begin) continue;
                put(y + c * M + m, of_x[BACK] * inverse_power(scale_of(of_x, alpha, k), power), beta);
            }
        }
    }
}

// The dx of a map waits for the shares of the AHEAD maps before it and the BACK maps after it.
extern "C" __global__ void lrn_bprop(const float *x, const float *dy, float *dx, float alpha, float power, float k,
                                     int slabs, int C, int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    float factor = 2 * alpha * power;
    FOR_ROWS(slab, slabs) {
        int begin = slab_end(slab - 1, slabs, C), end = slab_end(slab, slabs, C);
        FOR_EACH(m, M) {
            float of_x[SIZE] = {}, shares[SIZE] = {}, own[BACK + 1] = {};
            for (int newest = begin - AHEAD - BACK; newest < end + BACK + AHEAD; newest++) {
                push(of_x, newest >= 0 && newest < C ? x[newest * M + m] : 0);
                int j = newest - AHEAD; // its window is complete
                float s = scale_of(of_x, alpha, k);
                push(own, j >= 0 && j < C ? dy[j * M + m] * inverse_power(s, power) : 0);
                push(shares, own[BACK] * of_x[BACK] / s);
                int c = j - BACK; // all windows that hold it are complete
                if (c < begin) continue;
                float total = 0;
#pragma unroll
                for (int i = 0; i < SIZE; i++) total += shares[i];
                put(dx + c * M + m, own[0] - factor * of_x[0] * total, beta);
            }
        }
    }
}
