// Adam: m <- b1*m + (1-b1)*g'; v <- b2*v + (1-b2)*g'^2; w <- w - lr/c1 * m / (sqrt(v/c2) + eps).
//
//   adam_steps  all parameters of a net, each with its own factor of the rate, its decay and its bounds; none if
//               the step was refused (step.cu)
//
// c1 = 1 - b1^t and c2 = 1 - b2^t in update t, from 1. Adam: g' = g + decay*w. AdamW, `decoupled`: g' = g, and
// first w <- w - lr*decay*w. g is the gradient times *scale, if there is one (clip.cu), then cut off at -clip and
// clip. The updates done are counted here, as the host learns of a refused step too late: updates[turn] before,
// updates[1 - turn] after; the host takes turns.
//
// Order:   flat; each element by itself.
// Threads: one per LANES elements of a parameter, whose place starts on a cache line and is filled up to the end
//          of one; a row of blocks for each parameter. The first thread of a block computes c1 and c2.
// Bytes:   28 per element: w, m and v read and written, g read, all in one pass.
// NaN:     passes through clip and bounds: they must not hide it.
// Source:  Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv 1412.6980, algorithm 1;
//          Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv 1711.05101, in the form
//          of PyTorch's torch.optim.Adam and AdamW.
#include "minet.cuh"
#include "solver.cuh"

// value^n by squaring.
__device__ __forceinline__ double power(double value, long long n) {
    double result = 1;
    for (; n > 0; n /= 2, value *= value)
        if (n % 2) result *= value;
    return result;
}

// places: (start, size) of each parameter; each: (factor of the rate, 1 if it decays, low, high).
extern "C" __global__ void adam_steps(float *w, const float *g, float *m, float *v, const long long *places,
                                      const double *each, long long *updates, int turn, double lr, double beta1,
                                      double beta2, float eps, double decay, int decoupled, const double *scale,
                                      float clip, const double *verdict, int parameters) {
    __shared__ double step, root_of;
    bool refused = verdict && verdict[1] != 0;
    if (threadIdx.x == 0) {
        long long done = updates[turn] + !refused;
        step = lr / (1 - power(beta1, done)), root_of = sqrt(1 - power(beta2, done));
        if (blockIdx.x == 0 && blockIdx.y == 0) updates[1 - turn] = done;
    }
    if (refused) return;
    __syncthreads();
    float root = (float)root_of, factor = scale ? (float)*scale : 1;
    float keep1 = (float)beta1, take1 = (float)(1 - beta1), keep2 = (float)beta2, take2 = (float)(1 - beta2);
    FOR_ROWS(row, parameters) {
        const double *own = each + 4 * row;
        double pull = own[1] != 0 ? decay : 0;
        float rate = (float)(step * own[0]), low = (float)own[2], high = (float)own[3];
        float shrink = decoupled ? (float)(1 - lr * own[0] * pull) : 1, added = decoupled ? 0 : (float)pull;
        count_t start = places[2 * row], groups = (places[2 * row + 1] + LANES - 1) / LANES;
        FOR_EACH(i, groups) {
            Samples *at = (Samples *)(w + start) + i, *first = (Samples *)(m + start) + i;
            Samples *second = (Samples *)(v + start) + i;
            Samples value = *at, mean = *first, square = *second, slope = *((const Samples *)(g + start) + i);
            EACH_LANE(l) {
                float gradient = within(factor * slope.of[l], -clip, clip) + added * value.of[l];
                mean.of[l] = keep1 * mean.of[l] + take1 * gradient;
                square.of[l] = keep2 * square.of[l] + take2 * (gradient * gradient);
                float move = mean.of[l] / (sqrtf(square.of[l]) / root + eps);
                value.of[l] = within(shrink * value.of[l] - rate * move, low, high);
            }
            *at = value, *first = mean, *second = square;
        }
    }
}
