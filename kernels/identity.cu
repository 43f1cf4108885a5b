// axpby: y <- alpha*x + beta*y, which is all that Identity does, with alpha 1.
//
// Order:   flat; each element by itself.   Threads: one for each element.
// Bytes:   8 an element, 12 at a beta other than 0.
#include "minet.cuh"

extern "C" __global__ void axpby(const float *x, float *y, float alpha, float beta, index_t size) {
    FOR_ALL(i, size) put(y + i, alpha * x[i], beta);
}
