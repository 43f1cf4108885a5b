"""Clipping by the norm: min(1, most / (norm + 1e-6)), where norm is the root of the sum of all g^2.

Order:    blocks of fixed size, each as ``simd/sums.py`` does, in float64; then one after the other.
Parallel: over the blocks; a small array on the calling thread.
Bytes:    4 per element in float32.
Source:   Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013,
          arXiv 1211.5063, in the form of PyTorch's torch.nn.utils.clip_grad_norm_.
"""

import math

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel
from minet.loops.simd.lanes import address
from minet.loops.simd.sums import sum_squares

BLOCK = 1 << 14  # elements
SMALL = 4 * BLOCK
LEAST = 1e-6  # added to the norm


@kernel()
def block_squares(g, block):
    start = block * BLOCK
    return sum_squares(address(g, start), min(BLOCK, g.size - start), 0.0)


@kernel()
def squares(g, total):
    """Sum the squares of all elements on one thread."""
    total[0] = 0
    for block in range((g.size + BLOCK - 1) // BLOCK):
        total[0] += block_squares(g, block)


@parallel_kernel()
def squares_parallel(g, total):
    """Sum the squares of all elements, with the blocks in parallel."""
    shares = np.empty((g.size + BLOCK - 1) // BLOCK)
    for block in prange(shares.size):
        shares[block] = block_squares(g, np.intp(block))
    total[0] = 0
    for k in range(shares.size):
        total[0] += shares[k]


def clip_scale(gradients, most):
    """Return the factor for flat gradients whose norm together shall be at most `most`."""
    total, norm = np.zeros(1), 0.0
    for g in gradients:
        (squares if g.size < SMALL else squares_parallel)(g, total)
        norm += float(total[0])
    factor = most / (math.sqrt(norm) + LEAST)
    return factor if not factor > 1 else 1.0  # a NaN passes
