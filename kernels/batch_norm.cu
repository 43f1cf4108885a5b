// Batch normalisation: xhat = (x - mean) * inv_std for each channel; y = gamma*xhat + shift.
//
// In training, mean and variance are the batch's, over the M = H*W*N elements of a channel, and
// dx = gamma*inv_std * (dy - sum(dy)/M - xhat * sum(dy*xhat)/M); otherwise they are constants and
// dx = gamma*inv_std * dy. Either way dgamma = sum(dy*xhat), dshift = sum(dy).
//
// Order:   rows x[c] of M elements. Threads, blocks and channels have the moments of what they read: its count, mean
//          and sum of squares about that mean. Means are differences from the channel's first element, so a mean far
//          from 0 costs float32 no digits. The second pass over the rows begins with the last, which may still be in
//          the L2 cache.
// Threads: one per LANES elements, a row of blocks per c. For a sum, each block strides through the row and writes
//          one share, sums[which][c][block]; the last block of a row to end puts the shares together.
// Bytes:   12 per element forward (8 in evaluation), 20 backward, and 4 more if beta is not 0.
// Source:  Ioffe & Szegedy, "Batch normalization", ICML 2015, arXiv 1502.03167, algorithms 1 and 2; moments of
//          one pass from Welford, Technometrics 4, 1962, and of parts put together from Chan, Golub, LeVeque,
//          "Algorithms for computing the sample variance", 1983.
#include "minet.cuh"

struct Moments {
    float count, mean, squares; // squares: about the mean
};

// Those of all that the block's threads have the moments of, for each of them.
__device__ __forceinline__ Moments together(Moments of) {
    float count = block_total(of.count), mean = block_total(of.count * of.mean) / count, off = of.mean - mean;
    return {count, mean, block_total(of.squares + of.count * off * off)};
}

// mean and inv_std of a batch; they also update the running ones, if they are finite.
extern "C" __global__ void batch_norm_statistics(const float *x, float *sums, unsigned *came, float *mean,
                                                 float *inv_std, float *running_mean, float *running_var,
                                                 float momentum, float eps, int C, int H, int W, int N) {
    count_t M = (count_t)H * W * N;
    int shares = gridDim.x;
    FOR_ROWS(c, C) {
        const float *row = x + c * M;
        float first = row[0], count = 0;
        Samples means = {}, squares = {};
#pragma unroll 4
        FOR_EACH(i, M / LANES) {
            Samples value = ((const Samples *)row)[i];
            float weight = 1 / ++count;
            EACH_LANE(l) {
                float off = value.of[l] - first, step = off - means.of[l];
                means.of[l] += step * weight;
                squares.of[l] += step * (off - means.of[l]);
            }
        }
        Moments of = {0, 0, 0};
        EACH_LANE(l) of.mean += means.of[l] / LANES;
        EACH_LANE(l) {
            float off = means.of[l] - of.mean;
            of.count += count, of.squares += squares.of[l] + count * off * off;
        }
        of = together(of);
        float *share = sums + c * shares;
        if (threadIdx.x == 0) {
            share[blockIdx.x] = of.count;
            share[C * shares + blockIdx.x] = of.mean;
            share[2 * C * shares + blockIdx.x] = of.squares;
        }
        if (!last_block(came + c, shares)) continue;
        of = {0, 0, 0};
        if (threadIdx.x < shares) // SHARES is at most the number of threads
            of = {share[threadIdx.x], share[C * shares + threadIdx.x], share[2 * C * shares + threadIdx.x]};
        of = together(of);
        float unbiased = of.squares / max(M - 1, (count_t)1);
        if (threadIdx.x) continue;
        mean[c] = first + of.mean, inv_std[c] = is_finite(unbiased) ? 1 / sqrtf(of.squares / M + eps) : NAN;
        if (!is_finite(unbiased)) continue;
        running_mean[c] = momentum * running_mean[c] + (1 - momentum) * mean[c];
        running_var[c] = momentum * running_var[c] + (1 - momentum) * unbiased;
    }
}

// In evaluation the first block of a row also leaves mean and inv_std, the running ones, for bprop.
extern "C" __global__ void batch_norm_fprop(const float *x, float *y, const float *gamma, const float *shift,
                                            float *mean, float *inv_std, const float *running_mean,
                                            const float *running_var, float eps, int train, int C, int H, int W, int N,
                                            float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(row, C) {
        count_t c = C - 1 - row;
        float centre = train ? mean[c] : running_mean[c];
        float inverse = train ? inv_std[c] : 1 / sqrtf(running_var[c] + eps);
        if (!train && blockIdx.x == 0 && threadIdx.x == 0) mean[c] = centre, inv_std[c] = inverse;
        float scale = gamma[c] * inverse, offset = shift[c];
        FOR_EACH(i, M / LANES) {
            Samples value = ((const Samples *)(x + c * M))[i];
            EACH_LANE(l) value.of[l] = (value.of[l] - centre) * scale + offset;
            put(y + c * M + i * LANES, value, beta);
        }
    }
}

// dgamma and dshift, and in `slopes` what the dx of a batch needs: the means of dy and dy*xhat, 0 in evaluation.
extern "C" __global__ void batch_norm_slopes(const float *x, const float *dy, float *sums, unsigned *came,
                                             float *slopes, float *dgamma, float *dshift, const float *mean,
                                             const float *inv_std, int train, int C, int H, int W, int N) {
    count_t M = (count_t)H * W * N;
    int shares = gridDim.x;
    FOR_ROWS(c, C) {
        float centre = mean[c], inverse = inv_std[c], sum_dy = 0, sum_dy_xhat = 0;
#pragma unroll 2
        FOR_EACH(i, M / LANES) {
            Samples value = ((const Samples *)(x + c * M))[i], delta = ((const Samples *)(dy + c * M))[i];
            EACH_LANE(l) {
                sum_dy += delta.of[l];
                sum_dy_xhat += delta.of[l] * ((value.of[l] - centre) * inverse);
            }
        }
        sum_dy = block_sum(sum_dy);
        sum_dy_xhat = block_sum(sum_dy_xhat);
        float *share = sums + c * shares;
        if (threadIdx.x == 0) share[blockIdx.x] = sum_dy, share[C * shares + blockIdx.x] = sum_dy_xhat;
        if (!last_block(came + c, shares)) continue;
        bool there = threadIdx.x < shares;
        sum_dy = block_sum(there ? share[threadIdx.x] : 0);
        sum_dy_xhat = block_sum(there ? share[C * shares + threadIdx.x] : 0);
        if (threadIdx.x) continue;
        dshift[c] += sum_dy, dgamma[c] += sum_dy_xhat;
        slopes[c] = train ? sum_dy / M : 0, slopes[C + c] = train ? sum_dy_xhat / M : 0;
    }
}

extern "C" __global__ void batch_norm_bprop(const float *x, const float *dy, float *dx, const float *slopes,
                                            const float *gamma, const float *mean, const float *inv_std, int C, int H,
                                            int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(row, C) {
        count_t c = C - 1 - row;
        float centre = mean[c], inverse = inv_std[c], scale = gamma[c] * inverse;
        float mean_dy = slopes[c], mean_dy_xhat = slopes[C + c];
        FOR_EACH(i, M / LANES) {
            Samples value = ((const Samples *)(x + c * M))[i], delta = ((const Samples *)(dy + c * M))[i];
            EACH_LANE(l) {
                float xhat = (value.of[l] - centre) * inverse;
                delta.of[l] = scale * (delta.of[l] - mean_dy - xhat * mean_dy_xhat);
            }
            put(dx + c * M + i * LANES, delta, beta);
        }
    }
}
