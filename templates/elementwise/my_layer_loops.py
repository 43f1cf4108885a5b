"""MyLayer: y = x / sqrt(1 + x**2); dx = dy / sqrt(1 + x**2)**3.

Order:    rows x[c,h], then (w, n): the innermost loop runs along the batch.
Parallel: over (c, h).
"""

import math

import numpy as np
from minet.loops import parallel_kernel
from numba import prange


@parallel_kernel
def my_layer_fprop(x, y, beta):
    """y <- beta*y + f(x)."""
    C, H, W, N = x.shape
    one, beta = x.dtype.type(1), x.dtype.type(beta)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        for w in range(W):
            for n in range(N):
                value = x[c, h, w, n]
                value *= one / math.sqrt(one + value * value)
                if beta != 0:
                    value += beta * y[c, h, w, n]
                y[c, h, w, n] = value


@parallel_kernel
def my_layer_bprop(x, dy, dx, beta):
    """dx <- beta*dx + dy * f'(x)."""
    C, H, W, N = x.shape
    one, beta = x.dtype.type(1), x.dtype.type(beta)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        for w in range(W):
            for n in range(N):
                root = one / math.sqrt(one + x[c, h, w, n] ** 2)
                value = dy[c, h, w, n] * root * root * root
                if beta != 0:
                    value += beta * dx[c, h, w, n]
                dx[c, h, w, n] = value
