// Softmax and cross-entropy: loss = log(sum of exp(y[k] - max)) - (y[label] - max) for each sample, and
// dy[k] = (softmax(y)[k] - (k == label)) / N. A sample with a logit that is not finite has the loss NaN.
//
// Order:   y and dy (K, N), contiguous along N; sums in ascending k. The host averages the losses.
// Threads: one per sample, a warp along n.
// Bytes:   12 per logit and 4 per element of dy: three passes over few numbers, the last two from cache. The
//          loss is double, for differences of the largest float32 logits.
// Source:  textbook; the largest logit is subtracted against overflow.
#include "minet.cuh"

extern "C" __global__ void softmax_cross_entropy_loss(const float *y, const int *labels, double *loss, float *dy,
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
        loss[n] = finite ? log((double)total) - at_label : (double)nanf("");
        if (!dy) continue;
        for (int k = 0; k < K; k++) {
            float p = expf(y[(count_t)k * N + n] - most) / total;
            dy[(count_t)k * N + n] = (p - (k == label)) / N;
        }
    }
}
