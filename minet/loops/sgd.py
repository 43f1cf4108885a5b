"""SGD: g' = g + decay*w; v <- momentum*v + g'; w <- w - lr*v, or with nesterov w - lr*(g' + momentum*v).

g is the gradient times `scale`, then cut off at -clip and clip: see clip.py.

Order:    flat; each element by itself.
Parallel: over blocks of fixed size; a small array is one block, on the calling thread.
Bytes:    20 per element in float32: w and v read and written, g read, in a single pass.
NaN:      passes through clip and bounds: they must not hide it.
Source:   Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013,
          in the form of PyTorch's torch.optim.SGD.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel

BLOCK = 1 << 14  # elements
SMALL = 4 * BLOCK  # below this size starting threads costs more than they save


@kernel()
def sgd_block(w, g, v, lr, momentum, decay, nesterov, scale, clip, low, high):
    """Take one step on one thread."""
    real = w.dtype.type
    lr, momentum, decay, low, high = real(lr), real(momentum), real(decay), real(low), real(high)
    scale, clip = real(scale), real(clip)
    for i in range(w.size):
        gradient = scale * g[i]
        gradient = -clip if gradient < -clip else gradient
        gradient = clip if gradient > clip else gradient
        gradient = gradient + decay * w[i]
        velocity = momentum * v[i] + gradient
        v[i] = velocity
        value = w[i] - lr * (gradient + momentum * velocity if nesterov else velocity)
        value = low if value < low else value
        w[i] = high if value > high else value


@parallel_kernel()
def sgd_blocks(w, g, v, lr, momentum, decay, nesterov, scale, clip, low, high):
    """Take one step, with the blocks in parallel."""
    for block in prange((w.size + BLOCK - 1) // BLOCK):
        part = slice(np.intp(block) * BLOCK, min((np.intp(block) + 1) * BLOCK, w.size))
        sgd_block(w[part], g[part], v[part], lr, momentum, decay, nesterov, scale, clip, low, high)


def sgd_steps(parts, lr, momentum, decay, nesterov, scale, clip):
    """Take one step on all parameters of a net.

    `parts` has w, g and v of each as flat arrays, its own factor of the rate, whether it decays, and its
    bounds, which may be infinite.
    """
    for w, g, v, factor, decays, low, high in parts:
        step = sgd_block if w.size < SMALL else sgd_blocks
        step(w, g, v, lr * factor, momentum, decay if decays else 0.0, nesterov, scale, clip, low, high)
