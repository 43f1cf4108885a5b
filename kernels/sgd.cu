// SGD: g' = g + decay*w; v <- momentum*v + g'; w <- w - lr*v, or with nesterov w - lr*(g' + momentum*v).
//
//   sgd_steps  all parameters of a net, each with its own factor of the rate, its decay and its bounds; none if
//              the step was refused (step.cu)
//
// g is the gradient times *scale, if there is one (clip.cu), then cut off at -clip and clip.
//
// Order:   flat; each element by itself.
// Threads: one per LANES elements of a parameter, whose place starts on a cache line and is filled up to the end
//          of one; a row of blocks for each parameter.
// Bytes:   20 per element: w and v read and written, g read, all in one pass.
// NaN:     passes through clip and bounds: they must not hide it.
// Source:  Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013,
//          in the form of PyTorch's torch.optim.SGD.
#include "minet.cuh"
#include "solver.cuh"

#if __CUDA_ARCH__ == 750
#define RESIDENT 4 // blocks on a multiprocessor, which holds half as many threads as later ones
#else
#define RESIDENT 8
#endif

// places: (start, size) of each parameter; each: (factor of the rate, 1 if it decays, low, high).
extern "C" __global__ void __launch_bounds__(256, RESIDENT)
sgd_steps(float *w, const float *g, float *v, const long long *places, const double *each, double lr, float momentum,
          float decay, int nesterov, const double *scale, float clip, const double *verdict, int parameters) {
    if (verdict && verdict[1] != 0) return;
    float factor = scale ? (float)*scale : 1;
    FOR_ROWS(row, parameters) {
        const double *own = each + 4 * row;
        float rate = (float)(lr * own[0]), pull = own[1] != 0 ? decay : 0, low = (float)own[2], high = (float)own[3];
        count_t start = places[2 * row], groups = (places[2 * row + 1] + LANES - 1) / LANES;
        FOR_EACH(i, groups) {
            Samples *at = (Samples *)(w + start) + i, *speed = (Samples *)(v + start) + i;
            Samples value = *at, velocity = *speed, slope = *((const Samples *)(g + start) + i);
            EACH_LANE(l) {
                float gradient = within(factor * slope.of[l], -clip, clip) + pull * value.of[l];
                velocity.of[l] = momentum * velocity.of[l] + gradient;
                float move = nesterov ? gradient + momentum * velocity.of[l] : velocity.of[l];
                value.of[l] = within(value.of[l] - rate * move, low, high);
            }
            *at = value, *speed = velocity;
        }
    }
}
