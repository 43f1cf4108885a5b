// Huber's loss, with d = y - target and d clipped to -delta .. delta: the mean of clipped * (d - clipped / 2), in
// terms to be added up, and dy = clipped / size.
//
// Order:   flat; a term for each share of the elements.
// Threads: one per share, which strides through the arrays.
// Bytes:   12 per element. Differences are double: those of the largest float32 numbers overflow float32.
// Source:  P. J. Huber (1964), Robust Estimation of a Location Parameter.
#include "minet.cuh"

extern "C" __global__ void huber_loss(const float *y, const float *target, double *terms, int shares, float *dy,
                                      double delta, index_t size) {
    FOR_EACH(share, shares) {
        double total = 0, inverse = 1.0 / size;
        for (count_t i = share; i < size; i += shares) {
            double difference = (double)y[i] - target[i];
            double near = difference > delta ? delta : difference < -delta ? -delta : difference; // NaN stays
            if (dy) dy[i] = near * inverse;
            total += near * (difference - 0.5 * near);
        }
        terms[share] = total / size;
    }
}
