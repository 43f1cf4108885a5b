// Binary cross-entropy of logits: the mean of max(y, 0) - y t + log(1 + exp(-|y|)), in terms to be added up, and
// dy = (p - t) / size with p = 1 / (1 + exp(-y)).
//
// Order:   flat; a term for each share of the elements.
// Threads: one per share, which strides through the arrays.
// Bytes:   12 per element. The linear part is double: y t of the largest logits has to cancel.
// Source:  textbook; exp of a negative number alone cannot overflow. Where p is close to 1, 1 - p is computed
//          and not p, which would have lost it.
#include "minet.cuh"

extern "C" __global__ void binary_cross_entropy_loss(const float *y, const float *target, double *terms, int shares,
                                                     float *dy, index_t size) {
    FOR_EACH(share, shares) {
        double total = 0;
        for (count_t i = share; i < size; i += shares) {
            float logit = y[i], t = target[i], small = expf(-fabsf(logit)), tail = small / (1 + small);
            if (dy) dy[i] = (logit > 0 ? (1 - t) - tail : tail - t) / size;
            total += (logit > 0 ? logit : 0.0) - (double)logit * t + log1pf(small);
        }
        terms[share] = total / size;
    }
}
