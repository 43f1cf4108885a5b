// Softmax and cross-entropy: loss = log(sum of exp(y[k] - max)) - (y[label] - max) for each sample, and
// dy[k] = (softmax(y)[k] - (k == label)) / N. A sample with a logit that is not finite has the loss NaN.
//
//   loss    terms, which add up to the mean loss, and dy
//   spread  dy <- NaN everywhere, if a term is not finite
//
// Order:   y and dy (K, N), contiguous along N; sums in ascending k.
// Threads: loss: one per sample, a warp along n. spread: one per element; each block reads all terms.
// Bytes:   12 per logit and 4 per element of dy: three passes over few numbers, the last two from cache. The
//          loss is double, for differences of the largest float32 logits.
// Source:  textbook; the largest logit is subtracted against overflow.
#include "minet.cuh"

extern "C" __global__ void softmax_cross_entropy_loss(const float *y, const int *labels, double *terms, float *dy,
                                                      int K, int N) {
    FOR_EACH(n, N) {
        float most = y[n];
        bool finite = true;
        for (int k = 0; k < K; k++) {
            float logit = y[(count_t)k * N + n];
            finite = finite && is_finite(logit);
            most = max(most, logit);
        }
        float total = 0;
        for (int k = 0; k < K; k++) total += expf(y[(count_t)k * N + n] - most);
        int label = labels[n];
        double at_label = (double)y[(count_t)label * N + n] - most;
        terms[n] = finite ? (log((double)total) - at_label) / N : (double)nanf("");
        if (!dy) continue;
        for (int k = 0; k < K; k++) {
            float p = expf(y[(count_t)k * N + n] - most) / total;
            dy[(count_t)k * N + n] = (p - (k == label)) / N;
        }
    }
}

extern "C" __global__ void softmax_cross_entropy_spread(const double *terms, float *dy, int N, index_t size) {
    int bad = 0;
    for (int n = threadIdx.x; n < N; n += blockDim.x) bad |= !(terms[n] - terms[n] == 0);
    if (__syncthreads_or(bad)) FOR_ALL(i, size) dy[i] = nanf("");
}
