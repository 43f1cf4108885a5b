// Softmax and cross-entropy of M positions, each with K logits. The targets t of a position are probabilities or, of a
// class number, 1 for that class; kept = 1 - smoothing and spread = smoothing / K smooth them.
//
//   v[k] = weights[k] (kept t[k] + spread),  loss = sum of v[k] (log(sum of exp(y - max)) - (y[k] - max)),
//   dy[k] = softmax(y)[k] (sum of v) - v[k]; both divided by `over`, the sum of the labels' weights or else M.
//
//   count   counts, which add up to the weight of the labels; -1 is a label that is ignored
//   loss    terms, which add up to the mean loss, and dy; of no known label, 0
//   spread  dy <- NaN everywhere, if a term is not finite: a logit is not
//
// Order:   y, dy and targets (K, M), contiguous along M; sums in ascending k, then over a block's threads as a tree.
// Threads: a block of THREADS takes that many positions, a warp along m, and goes on to others; spread: one per
//          element.
// Bytes:   12 per logit and 4 per element of dy: three passes, the last two from cache; of probabilities 8 more. The
//          loss is double, for differences of the largest float32 logits.
// Source:  textbook; the largest logit is subtracted against overflow. Smoothing and weights: as PyTorch's.
#include "minet.cuh"
#define THREADS 256
// What the targets are and have is fixed for a net; it is compiled in, so that plain class numbers need few registers.
#ifndef SOFT
#define SOFT 0 // probabilities
#endif
#ifndef SMOOTHED
#define SMOOTHED 0 // spread is not 0
#endif
#ifndef WEIGHTED
#define WEIGHTED 0
#endif

// The sum over the block's threads, for all of them, in an order of its own.
__device__ __forceinline__ double all_of_block(double value) {
    __shared__ double of[THREADS];
    __syncthreads(); // all have read what the call before left
    of[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) of[threadIdx.x] += of[threadIdx.x + half];
    }
    __syncthreads();
    return of[0];
}

// v of a class, whose target is t.
__device__ __forceinline__ float part_of(float t, float kept, float spread, const float *weights, int k) {
    float part = SOFT || SMOOTHED ? kept * t + spread : t;
    return WEIGHTED ? part * weights[k] : part;
}

extern "C" __global__ void softmax_cross_entropy_count(const int *labels, const float *weights, double *counts,
                                                       index_t M) {
    double total = 0;
    FOR_EACH(m, M) {
        int label = labels[m];
        if (label >= 0) total += WEIGHTED ? weights[label] : 1.0f;
    }
    total = all_of_block(total);
    if (threadIdx.x == 0) counts[blockIdx.x] = total;
}

extern "C" __global__ void softmax_cross_entropy_loss(const float *y, const int *labels, const float *targets,
                                                      const float *weights, const double *counts, int counters,
                                                      float kept, float spread, double *terms, float *dy, int K,
                                                      index_t M) {
    double over = M, sum = 0;
    if (!SOFT) over = all_of_block(threadIdx.x < counters ? counts[threadIdx.x] : 0.0); // at most THREADS
    FOR_EACH(m, M) {
        float most = y[m];
        bool finite = true;
        for (int k = 0; k < K; k++) {
            float logit = y[(count_t)k * M + m];
            finite = finite && is_finite(logit);
            most = max(most, logit);
        }
        float total = 0;
        for (int k = 0; k < K; k++) total += expf(y[(count_t)k * M + m] - most);
        double log_total = log((double)total), slope = 1;
        int label = SOFT ? 0 : labels[m];
        bool known = label >= 0 && over > 0;
        if (!known) {
            slope = 0;
        } else if (SOFT || SMOOTHED) {
            slope = 0;
            for (int k = 0; k < K; k++) {
                float part = part_of(SOFT ? targets[(count_t)k * M + m] : k == label, kept, spread, weights, k);
                slope += part;
                sum += part * (log_total - ((double)y[(count_t)k * M + m] - most));
            }
        } else {
            if (WEIGHTED) slope = weights[label];
            sum += slope * (log_total - ((double)y[(count_t)label * M + m] - most));
        }
        if (!finite) sum = nanf("");
        if (!dy) continue;
        float pull = slope, divisor = known ? over : 1.0;
        for (int k = 0; k < K; k++) {
            float p = expf(y[(count_t)k * M + m] - most) / total;
            float part = part_of(SOFT ? targets[(count_t)k * M + m] : k == label, kept, spread, weights, k);
            dy[(count_t)k * M + m] = known ? (p * pull - part) / divisor : 0.0f;
        }
    }
    sum = all_of_block(sum);
    if (threadIdx.x == 0) terms[blockIdx.x] = over > 0 ? sum / over : sum;
}

extern "C" __global__ void softmax_cross_entropy_spread(const double *terms, int blocks, float *dy, int K, index_t M) {
    int bad = 0;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) bad |= !(terms[i] - terms[i] == 0);
    if (__syncthreads_or(bad)) FOR_ALL(i, (count_t)K * M) dy[i] = nanf("");
}
