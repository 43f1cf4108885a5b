// What layers need from a backend besides their own kernels and matrix products, which are cuBLAS's.
//
//   axpby      y         <- alpha*x + beta*y; with alpha 1 this is all of Identity
//   sum_rows   out[i, b] <- beta*out + sum over block b's share of a[i, :]
//   add_bias   y[i, j]   += b[i]
//
// Order:   axpby flat; the others over matrices of `length` columns, with rows `step` apart.
// Threads: axpby: one per LANES elements; add_bias: one per element. sum_rows: a block per share of a row, in
//          shares of equal size; its threads stride through the share and add up in a fixed tree. Called twice,
//          shares first, it sums any row in an order that depends on the sizes alone.
// Bytes:   axpby 8 per element, 12 if beta is not 0; sum_rows 4; add_bias 8.
#include "minet.cuh"

extern "C" __global__ void axpby(const float *x, float *y, float alpha, float beta, index_t size) {
    FOR_ALL(i, size / LANES) {
        Samples value = ((const Samples *)x)[i];
        EACH_LANE(l) value.of[l] *= alpha;
        put(y + i * LANES, value, beta);
    }
}

extern "C" __global__ void sum_rows(const float *a, index_t step, float *out, index_t rows, index_t length,
                                    float beta) {
    index_t share = (length + gridDim.x - 1) / gridDim.x, first = blockIdx.x * share;
    index_t end = first + share < length ? first + share : length;
    FOR_ROWS(row, rows) {
        float total = 0;
        for (index_t j = first + threadIdx.x; j < end; j += blockDim.x) total += a[row * step + j];
        total = block_sum(total);
        if (threadIdx.x == 0) put(out + (row * (index_t)gridDim.x + blockIdx.x), total, beta);
    }
}

extern "C" __global__ void add_bias(float *y, index_t step, const float *b, index_t rows, index_t length) {
    FOR_ROWS(row, rows) {
        float bias = b[row];
        FOR_EACH(j, length) y[row * step + j] += bias;
    }
}
