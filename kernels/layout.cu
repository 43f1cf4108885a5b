// Images from one order of axes to the other, as minet/loops/layout.py does on the cpu:
//
//   y[plane, column, row] <- x[plane, row, column]
//
// From and to NCHW a plane is all there is, or a channel; from and to channels last, a pixel. x_row is how far
// apart rows of x are, and so on; columns of x lie side by side, and so do rows of y.
//
// Order:   squares of 32x32, one block each; blocks stride over the rest.
// Threads: a warp reads a row of a square, and after the barrier writes a column of it: 128 bytes side by side
//          in both. The square's rows are 33 long, so that a column of it lies in 32 banks.
// Bytes:   8 per element.
#include "minet.cuh"
#define SIDE 32
#define DEEP 8 // rows of threads

extern "C" __global__ void transpose(const float *x, float *y, index_t rows, index_t columns, index_t planes,
                                     index_t x_row, index_t x_plane, index_t y_column, index_t y_plane) {
    __shared__ float square[SIDE][SIDE + 1];
    index_t across = (columns + SIDE - 1) / SIDE, down = (rows + SIDE - 1) / SIDE;
    for (index_t at = blockIdx.x; at < planes * across * down; at += gridDim.x) {
        index_t plane = at / (across * down), row = at / across % down * SIDE, column = at % across * SIDE;
        const float *from = x + plane * x_plane + row * x_row + column;
        float *to = y + plane * y_plane + column * y_column + row;
        for (int i = threadIdx.y; i < SIDE; i += DEEP)
            if (row + i < rows && column + threadIdx.x < columns)
                square[i][threadIdx.x] = from[i * x_row + threadIdx.x];
        __syncthreads();
        for (int i = threadIdx.y; i < SIDE; i += DEEP)
            if (column + i < columns && row + threadIdx.x < rows)
                to[i * y_column + threadIdx.x] = square[threadIdx.x][i];
        __syncthreads(); // before the next square is read
    }
}
