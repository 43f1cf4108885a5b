// SGD: g' = g + decay*w; v <- momentum*v + g'; w <- w - lr*v, or with nesterov w - lr*(g' + momentum*v).
//
//   sgd_step   one parameter
//   sgd_steps  all parameters of a net, each with its own factor of the rate, its decay and its bounds; none if
//              the step was refused (step.cu)
//
// Order:   flat; each element by itself.
// Threads: sgd_step: one per element. sgd_steps: one per LANES elements of a parameter, whose place starts on
//          a cache line and is filled up to the end of one; a row of blocks for each parameter.
// Bytes:   20 per element: w and v read and written, g read, all in one pass.
// NaN:     passes through the clip: a bound must not hide it.
// Source:  Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013,
//          in the form of PyTorch's torch.optim.SGD.
#include "minet.cuh"

struct Settings {
    float lr, momentum, decay;
    int nesterov;
    float low, high;
};

__device__ __forceinline__ void step(float &w, float g, float &v, Settings of) {
    float gradient = g + of.decay * w;
    v = of.momentum * v + gradient;
    float value = w - of.lr * (of.nesterov ? gradient + of.momentum * v : v);
    value = value < of.low ? of.low : value;
    w = value > of.high ? of.high : value;
}

extern "C" __global__ void sgd_step(float *w, const float *g, float *v, float lr, float momentum, float decay,
                                    int nesterov, float low, float high, index_t size) {
    FOR_ALL(i, size) step(w[i], g[i], v[i], {lr, momentum, decay, nesterov, low, high});
}

// places: (start, size) of each parameter; each: (factor of the rate, 1 if it decays, low, high).
extern "C" __global__ void sgd_steps(float *w, const float *g, float *v, const long long *places, const double *each,
                                     double lr, float momentum, float decay, int nesterov, const double *verdict,
                                     int parameters) {
    if (verdict && verdict[1] != 0) return;
    FOR_ROWS(row, parameters) {
        const double *own = each + 4 * row;
        Settings of = {(float)(lr * own[0]), momentum, own[1] != 0 ? decay : 0, nesterov, (float)own[2], (float)own[3]};
        count_t start = places[2 * row], groups = (places[2 * row + 1] + LANES - 1) / LANES;
        FOR_EACH(i, groups) {
            Samples *at = (Samples *)(w + start) + i, *speed = (Samples *)(v + start) + i;
            Samples value = *at, velocity = *speed, slope = *((const Samples *)(g + start) + i);
            EACH_LANE(l) step(value.of[l], slope.of[l], velocity.of[l], of);
            *at = value, *speed = velocity;
        }
    }
}
