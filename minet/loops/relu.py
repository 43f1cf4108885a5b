"""ReLU: y = max(x, 0); dx = dy where x > 0, else 0.

Order:    flat; each element by itself.
Parallel: over blocks of fixed size.
Bytes:    per element in float32: 8 forward, 12 backward, 4 more if beta is not 0.
NaN:      stays a NaN, and lets its delta through, as in PyTorch.
Source:   Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
"""

import numpy as np
from numba import prange

from minet.loops import parallel_kernel

BLOCK = 1 << 14  # elements


@parallel_kernel()
def relu_fprop(x, y, beta):
    """y <- beta*y + max(x, 0), on flat arrays."""
    zero, beta = x.dtype.type(0), x.dtype.type(beta)
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        part = slice(np.intp(block) * BLOCK, min((np.intp(block) + 1) * BLOCK, x.size))
        into, out = x[part], y[part]
        for i in range(into.size):
            value = zero if into[i] <= 0 else into[i]
            out[i] = value if beta == 0 else beta * out[i] + value


@parallel_kernel()
def relu_bprop(x, dy, dx, beta):
    """dx <- beta*dx + dy * (x > 0), on flat arrays. If dy is None, it is in dx and is overwritten."""
    zero, beta = x.dtype.type(0), x.dtype.type(beta)
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        part = slice(np.intp(block) * BLOCK, min((np.intp(block) + 1) * BLOCK, x.size))
        into, out = x[part], dx[part]
        delta = out if dy is None else dy[part]
        for i in range(into.size):
            value = zero if into[i] <= 0 else delta[i]
            out[i] = value if beta == 0 else beta * out[i] + value
