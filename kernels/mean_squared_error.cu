// Mean squared error: the mean of (y - target)^2, in terms to be added up, and dy = 2 (y - target) / size.
//
// Order:   flat; a term for each share of the elements.
// Threads: one per share, which strides through the arrays.
// Bytes:   12 per element. The squares are double: those of large float32 numbers overflow float32.
// Source:  textbook.
#include "minet.cuh"

extern "C" __global__ void mean_squared_error_loss(const float *y, const float *target, double *terms, int shares,
                                                   float *dy, index_t size) {
    FOR_EACH(share, shares) {
        double total = 0;
        for (count_t i = share; i < size; i += shares) {
            float difference = y[i] - target[i];
            if (dy) dy[i] = difference * (2.0f / size);
            total += (double)difference * difference;
        }
        terms[share] = total / size;
    }
}
