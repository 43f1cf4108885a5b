"""What layers need of a backend besides their own loops and matrix products: sums over rows, and a copy.

    sum_rows   out[i] <- beta*out[i] + sum over t of a[i, t]
    copy       out[i] <- a[i]

Order:    along the rows, as ``simd/sums.py`` does.
Parallel: over rows; a copy over its elements, since one core does not use all of the memory's bandwidth.
Bytes:    each element is read once.
Source:   textbook. Twin of kernels/arithmetic.cu; axpby and add_bias are NumPy's own.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel
from minet.loops.simd.lanes import address
from minet.loops.simd.sums import sum_row


@kernel
def put(out, at, value, beta):
    out[at] = value if beta == 0 else beta * out[at] + value


def flat(matrix):
    """Return a matrix's memory, from its first to its last element, and its strides in elements.

    One-dimensional arrays have a single type, so a kernel compiles only once for each dtype.
    """
    if matrix.flags.c_contiguous:
        return matrix.reshape(-1), matrix.shape[1], 1
    strides = [stride // matrix.itemsize for stride in matrix.strides]
    span = 1 + sum((size - 1) * stride for size, stride in zip(matrix.shape, strides, strict=True))
    return np.lib.stride_tricks.as_strided(matrix, (span,), (matrix.itemsize,)), *strides


@parallel_kernel
def sums(a, am, out, M, T, beta):
    """Compute ``out[i] <- beta*out[i] + sum over t of a[i, t]``."""
    for i in prange(M):
        put(out, i, a.dtype.type(sum_row(address(a, i * am), T)), beta)


@parallel_kernel
def copy(a, out):
    for i in prange(out.size):
        out[i] = a[i]


def sum_rows(a, out, beta):
    fa, am, _ = flat(a)
    sums(fa, am, out, *a.shape, out.dtype.type(beta))
