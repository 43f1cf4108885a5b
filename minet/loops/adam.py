"""Adam: m <- b1*m + (1-b1)*g'; v <- b2*v + (1-b2)*g'^2; w <- w - lr/c1 * m / (sqrt(v/c2) + eps).

c1 = 1 - b1^t and c2 = 1 - b2^t in update t, from 1. Adam: g' = g + decay*w. AdamW, `decoupled`: g' = g,
and first w <- w - lr*decay*w. g is the gradient times `scale`, then cut off at -clip and clip: see clip.py.

Order:    flat; each element by itself.
Parallel: over blocks of fixed size; a small array is one block, on the calling thread.
Bytes:    28 per element in float32: w, m and v read and written, g read, in a single pass.
NaN:      passes through clip and bounds: they must not hide it.
Source:   Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv 1412.6980, algorithm 1;
          Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv 1711.05101, in the
          form of PyTorch's torch.optim.Adam and AdamW.
"""

import math

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel

BLOCK = 1 << 14  # elements
SMALL = 4 * BLOCK  # below this size starting threads costs more than they save


@kernel()
def adam_block(w, g, m, v, rate, root, beta1, beta2, eps, decay, shrink, scale, clip, low, high):
    """Take one step on one thread: `rate` is lr/c1, `root` sqrt(c2), `shrink` what the decay leaves."""
    real = w.dtype.type
    keep1, take1, keep2, take2 = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2)
    rate, root, eps, decay, shrink = real(rate), real(root), real(eps), real(decay), real(shrink)
    scale, clip, low, high = real(scale), real(clip), real(low), real(high)
    for i in range(w.size):
        gradient = scale * g[i]
        gradient = -clip if gradient < -clip else gradient
        gradient = clip if gradient > clip else gradient
        gradient = gradient + decay * w[i]
        mean = keep1 * m[i] + take1 * gradient
        square = keep2 * v[i] + take2 * (gradient * gradient)
        m[i], v[i] = mean, square
        value = shrink * w[i] - rate * (mean / (math.sqrt(square) / root + eps))
        value = low if value < low else value
        w[i] = high if value > high else value


@parallel_kernel()
def adam_blocks(w, g, m, v, rate, root, beta1, beta2, eps, decay, shrink, scale, clip, low, high):
    """Take one step, with the blocks in parallel."""
    for block in prange((w.size + BLOCK - 1) // BLOCK):
        at = slice(np.intp(block) * BLOCK, min((np.intp(block) + 1) * BLOCK, w.size))
        adam_block(
            w[at], g[at], m[at], v[at], rate, root, beta1, beta2, eps, decay, shrink, scale, clip, low, high
        )


def adam_steps(parts, updates, turn, lr, beta1, beta2, eps, decay, decoupled, scale, clip):
    """Take one step on all parameters of a net; ``updates[turn]`` were done, ``updates[1 - turn]`` are then.

    `parts` has w, g, m and v of each as flat arrays, its own factor of the rate, whether it decays, and its
    bounds, which may be infinite.
    """
    done = int(updates[turn]) + 1
    updates[1 - turn] = done
    rate, root = lr / (1 - beta1**done), math.sqrt(1 - beta2**done)
    for w, g, m, v, factor, decays, low, high in parts:
        own = decay if decays else 0.0
        shrink = 1 - lr * factor * own if decoupled else 1.0
        added = 0.0 if decoupled else own
        step = adam_block if w.size < SMALL else adam_blocks
        step(
            w, g, m, v, rate * factor, root, beta1, beta2, eps, added, shrink, scale, clip, low, high
        )  # fmt: skip
