// Mean squared error: the sum of (y - target)^2, in shares, and dy = 2 (y - target) / size.
//
// Order:   flat. The host adds up the shares, loss[0], loss[1], ..., and divides by the size.
// Threads: one per share, which strides through the arrays.
// Bytes:   12 per element. The squares are double: those of large float32 numbers overflow float32.
// Source:  textbook.
#include "minet.cuh"

extern "C" __global__ void mean_squared_error_loss(const float *y, const float *target, double *loss, int shares,
                                                   float *dy, index_t size) {
    FOR_EACH(share, shares) {
        double total = 0;
        for (count_t i = share; i < size; i += shares) {
            float difference = y[i] - target[i];
            if (dy) dy[i] = difference * (2.0f / size);
            total += (double)difference * difference;
        }
        loss[share] = total;
    }
}
