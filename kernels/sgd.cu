// SGD: g' = g + decay*w; v <- momentum*v + g'; w <- w - lr*v, or with nesterov w - lr*(g' + momentum*v).
//
// Order:   flat; each element by itself.   Threads: one per element.
// Bytes:   20 per element: w and v read and written, g read, all in one pass.
// NaN:     passes through the clip: a bound must not hide it.
// Source:  Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013,
//          in the form of PyTorch's torch.optim.SGD.
#include "minet.cuh"

extern "C" __global__ void sgd_step(float *w, const float *g, float *v, float lr, float momentum, float decay,
                                    int nesterov, float low, float high, index_t size) {
    FOR_ALL(i, size) {
        float gradient = g[i] + decay * w[i];
        float velocity = momentum * v[i] + gradient;
        float value = w[i] - lr * (nesterov ? gradient + momentum * velocity : velocity);
        v[i] = velocity;
        value = value < low ? low : value;
        w[i] = value > high ? high : value;
    }
}
