// Batch normalisation: xhat = (x - mean) * inv_std for each channel; y = gamma*xhat + shift.
//
// In training, mean and variance are the batch's, over the M = H*W*N elements of a channel, and
// dx = gamma*inv_std * (dy - sum(dy)/M - xhat * sum(dy*xhat)/M); otherwise they are constants and
// dx = gamma*inv_std * dy. Either way dgamma = sum(dy*xhat), dshift = sum(dy).
//
// Order:   rows x[c] of M elements. The mean comes first; then, of the differences from it, the squares and
//          the sum, which is 0 except for the mean's rounding and corrects both. So a mean far from 0 costs
//          float32 no digits.
// Threads: a row of blocks per c. For a sum, each block strides through the row and writes one share,
//          sums[which][c][block]; a kernel that needs the sum adds up the shares in a fixed tree.
// Bytes:   16 per element forward (8 in evaluation), 20 backward, and 4 more if beta is not 0.
// Source:  Ioffe & Szegedy, "Batch normalization", ICML 2015, arXiv 1502.03167, algorithms 1 and 2; the
//          corrected variance from Chan, Golub, LeVeque, "Algorithms for computing the sample variance", 1983.
#include "minet.cuh"

// The sum of a channel's shares, for all threads of the block.
__device__ __forceinline__ float sum_of(const float *share, int shares) {
    __shared__ float total;
    float value = 0;
    for (int i = threadIdx.x; i < shares; i += blockDim.x) value += share[i];
    value = block_sum(value);
    if (threadIdx.x == 0) total = value;
    __syncthreads();
    return total; // block_sum begins with a barrier: no thread writes before all have read
}

extern "C" __global__ void batch_norm_sums(const float *x, float *sums, int C, int H, int W, int N) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float total = 0;
        FOR_EACH(m, M) total += x[c * M + m];
        total = block_sum(total);
        if (threadIdx.x == 0) sums[c * gridDim.x + blockIdx.x] = total;
    }
}

extern "C" __global__ void batch_norm_squares(const float *x, float *sums, int C, int H, int W, int N) {
    count_t M = (count_t)H * W * N, shares = gridDim.x;
    FOR_ROWS(c, C) {
        float centre = sum_of(sums + c * shares, shares) / M, rest = 0, squares = 0;
        FOR_EACH(m, M) {
            float off = x[c * M + m] - centre;
            rest += off, squares += off * off;
        }
        rest = block_sum(rest);
        squares = block_sum(squares);
        if (threadIdx.x == 0) {
            sums[(C + c) * shares + blockIdx.x] = rest;
            sums[(2 * C + c) * shares + blockIdx.x] = squares;
        }
    }
}

// mean and inv_std of each channel, with a block per channel: in training the batch's, which also update the
// running ones if they are finite; otherwise the running ones.
extern "C" __global__ void batch_norm_statistics(const float *sums, int shares, float *mean, float *inv_std,
                                                 float *running_mean, float *running_var, float momentum,
                                                 float eps, int train, int C, int H, int W, int N) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float centre = running_mean[c], variance = running_var[c];
        if (train) {
            float first = sum_of(sums + c * shares, shares) / M;
            float rest = sum_of(sums + (C + c) * shares, shares);
            float squares = sum_of(sums + (2 * C + c) * shares, shares) - rest * (rest / M);
            squares = squares < 0 ? 0 : squares; // negative by rounding
            float unbiased = squares / max(M - 1, (count_t)1);
            if (threadIdx.x == 0 && is_finite(unbiased)) {
                running_mean[c] = momentum * centre + (1 - momentum) * (first + rest / M);
                running_var[c] = momentum * variance + (1 - momentum) * unbiased;
            }
            centre = first + rest / M, variance = squares / M;
        }
        if (threadIdx.x == 0) mean[c] = centre, inv_std[c] = 1 / sqrtf(variance + eps);
    }
}

extern "C" __global__ void batch_norm_fprop(const float *x, float *y, const float *gamma, const float *shift,
                                            const float *mean, const float *inv_std, int C, int H, int W, int N,
                                            float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float centre = mean[c], scale = gamma[c] * inv_std[c], offset = shift[c];
        FOR_EACH(m, M) put(y + c * M + m, (x[c * M + m] - centre) * scale + offset, beta);
    }
}

extern "C" __global__ void batch_norm_slopes(const float *x, const float *dy, float *sums, const float *mean,
                                             const float *inv_std, int C, int H, int W, int N) {
    count_t M = (count_t)H * W * N, shares = gridDim.x;
    FOR_ROWS(c, C) {
        float centre = mean[c], inverse = inv_std[c], dshift = 0, dgamma = 0;
        FOR_EACH(m, M) {
            float delta = dy[c * M + m];
            dshift += delta, dgamma += delta * ((x[c * M + m] - centre) * inverse);
        }
        dshift = block_sum(dshift);
        dgamma = block_sum(dgamma);
        if (threadIdx.x == 0) {
            sums[c * shares + blockIdx.x] = dshift;
            sums[(C + c) * shares + blockIdx.x] = dgamma;
        }
    }
}

// The first block of a row adds to the row's dgamma and dshift; without dx it is the only block.
extern "C" __global__ void batch_norm_bprop(const float *x, const float *dy, float *dx, const float *sums,
                                            int shares, const float *gamma, float *dgamma, float *dshift,
                                            const float *mean, const float *inv_std, int train, int C, int H,
                                            int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        float sum_dy = sum_of(sums + c * shares, shares), sum_dy_xhat = sum_of(sums + (C + c) * shares, shares);
        if (blockIdx.x == 0 && threadIdx.x == 0) dshift[c] += sum_dy, dgamma[c] += sum_dy_xhat;
        if (!dx) continue;
        float centre = mean[c], inverse = inv_std[c], scale = gamma[c] * inverse;
        float mean_dy = train ? sum_dy / M : 0, mean_dy_xhat = train ? sum_dy_xhat / M : 0;
        FOR_EACH(m, M) {
            float xhat = (x[c * M + m] - centre) * inverse;
            put(dx + c * M + m, scale * (dy[c * M + m] - mean_dy - xhat * mean_dy_xhat), beta);
        }
    }
}
