"""MyLayer: y = x / sqrt(1 + alpha*x**2); dx = dy / sqrt(1 + alpha*x**2)**3.

dalpha is the sum of -dy * y**3 / 2 over a channel.

Order:    rows x[c,h], then (w, n): the innermost loop runs along the batch.
Parallel: over (c, h). Each row sums its share of dalpha; the shares are added in order.
"""

import math

import numpy as np
from minet.loops import parallel_kernel
from numba import prange


@parallel_kernel
def my_layer_fprop(x, y, alpha, beta):
    """y <- beta*y + f(x)."""
    C, H, W, N = x.shape
    one, beta = x.dtype.type(1), x.dtype.type(beta)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        for w in range(W):
            for n in range(N):
                value = x[c, h, w, n]
                value *= one / math.sqrt(one + alpha[c] * value * value)
                if beta != 0:
                    value += beta * y[c, h, w, n]
                y[c, h, w, n] = value


@parallel_kernel
def my_layer_bprop(x, dy, dx, alpha, dalpha, beta):
    """dx <- beta*dx + dy * f'(x), unless dx is empty; dalpha += its sums."""
    C, H, W, N = x.shape
    one, beta = x.dtype.type(1), x.dtype.type(beta)
    shares = np.zeros(C * H)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        for w in range(W):
            for n in range(N):
                value, delta = x[c, h, w, n], dy[c, h, w, n]
                root = one / math.sqrt(one + alpha[c] * value * value)
                shares[row] -= delta * (value * root) ** 3 / 2
                if dx.size:
                    delta *= root * root * root
                    if beta != 0:
                        delta += beta * dx[c, h, w, n]
                    dx[c, h, w, n] = delta
    for row in range(C * H):
        dalpha[row // H] += shares[row]
