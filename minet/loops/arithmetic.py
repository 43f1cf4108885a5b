"""What layers need of a backend besides their own loops and matrix products: sums over a matrix's rows.

    sum_rows   out[i] <- beta*out[i] + sum over t of a[i, t]

Order:    along the rows, in parts of LENGTH: one long sum would lose precision.
Parallel: over rows.
Bytes:    each element is read once.
Source:   textbook. Twin of kernels/arithmetic.cu; axpby and add_bias are NumPy's own.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel

LENGTH = 512  # terms in a part of a sum


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
        total = 0.0
        for t0 in range(0, T, LENGTH):
            part = a.dtype.type(0)
            for t in range(t0, min(t0 + LENGTH, T)):
                part += a[i * am + t]
            total += part
        put(out, i, total, beta)


def sum_rows(a, out, beta):
    fa, am, _ = flat(a)
    sums(fa, am, out, *a.shape, out.dtype.type(beta))
