"""PReLU: y = x if x > 0 else a*x; dx = dy if x > 0 else a*dy; da = sum of dy*x over x <= 0.

Order:    rows x[c] of H*W*N elements, in blocks of fixed size; a has a slope for each row, or one for all.
Parallel: over (c, block). da is summed by blocks, in float64, as ``simd/sums.py`` does.
Bytes:    per element in float32: 8 forward, 12 backward, 4 more if beta is not 0.
Source:   He et al., "Delving deep into rectifiers", ICCV 2015, section 2.1, arXiv 1502.01852.
"""

import numpy as np
from numba import prange

from minet.loops import parallel_kernel
from minet.loops.simd.lanes import address
from minet.loops.simd.sums import add_shares, sum_products_unless_positive

BLOCK = 1 << 13  # elements; the same on every machine, so that bits repeat


@parallel_kernel()
def prelu_fprop(x, y, a, beta):
    """y <- beta*y + f(x), on (C, H*W*N) arrays."""
    C, M = x.shape
    beta = x.dtype.type(beta)
    blocks = (M + BLOCK - 1) // BLOCK
    for index in prange(C * blocks):
        c, block = divmod(np.intp(index), blocks)
        part = slice(block * BLOCK, min((block + 1) * BLOCK, M))
        into, out, slope = x[c, part], y[c, part], a[c % a.size]
        for m in range(into.size):
            value = into[m] if into[m] > 0 else slope * into[m]
            out[m] = value if beta == 0 else beta * out[m] + value


@parallel_kernel()
def prelu_bprop(x, dy, dx, a, da, beta):
    """dx <- beta*dx + dy * f'(x), unless dx is empty; da += sum of dy*x over x <= 0.

    If dy is None, it is in dx and is overwritten: as two arrays they would keep LLVM from using SIMD.
    """
    C, M = x.shape
    beta = x.dtype.type(beta)
    blocks = (M + BLOCK - 1) // BLOCK
    sums = np.empty((C, blocks), np.float64)
    for index in prange(C * blocks):
        c, block = divmod(np.intp(index), blocks)
        slope = a[c % a.size]
        part = slice(block * BLOCK, min((block + 1) * BLOCK, M))
        into, delta = x[c, part], dx[c, part] if dy is None else dy[c, part]
        sums[c, block] = sum_products_unless_positive(address(delta, 0), address(into, 0), into.size)
        if dx.size:
            out = dx[c, part]
            for m in range(into.size):
                value = delta[m] if into[m] > 0 else slope * delta[m]
                out[m] = value if beta == 0 else beta * out[m] + value
    # The gradient of a shared slope is summed over channels in float64, like the blocks.
    add_shares(sums, da)
