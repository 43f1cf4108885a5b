"""Local response normalisation across maps: y[c] = x[c] * s[c]**-power.

s[c] = k + alpha/size * sum of x[j]**2 over the maps j = c - size//2 .. c + (size-1)//2 that exist, and
dx[c] = dy[c] * s[c]**-power - 2*alpha*power/size * x[c] * sum of dy[j]*x[j]*s[j]**(-power-1) over the maps j
whose windows contain c.

Order:    columns of (C, H*W*N), a tile of them at a time through all maps.
Parallel: over tiles. bprop recomputes s from x: cheaper than to write it and read it back.
Bytes:    per element in float32: 8 forward, 12 backward, 4 more if beta is not 0; what windows share
          comes from cache.
Source:   Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", NIPS 2012,
          section 3.3, with alpha divided by size as in Caffe and PyTorch.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel

TILE = 256  # columns


@kernel()
def inverse_power(x, c, start, size, alpha, power, k, s, p):
    """s <- s[c] and p <- s[c]**-power, for the columns from `start`."""
    for m in range(s.size):
        s[m] = 0
    first, end = max(c - size // 2, 0), min(c + (size - 1) // 2 + 1, len(x))
    for j in range(first, end):
        row = x[j, start : start + s.size]
        for m in range(s.size):
            s[m] += row[m] * row[m]
    one = s.dtype.type(1)
    for m in range(s.size):
        s[m] = k + alpha * s[m]
    if power == 0.75:  # the usual value; a general power costs far more
        for m in range(s.size):
            root = np.sqrt(s[m])
            p[m] = one / (root * np.sqrt(root))
    else:
        for m in range(s.size):
            p[m] = s[m] ** -power
    infinite = False
    for m in range(s.size):
        infinite |= s[m] == np.inf
    if infinite:  # of finite numbers, a y of 0 would hide it
        for m in range(s.size):
            if s[m] == np.inf and np.isfinite(x[first:end, start + m]).all():
                p[m] = np.nan


@parallel_kernel()
def lrn_fprop(x, y, size, alpha, power, k, beta):
    """y <- beta*y + f(x), on (C, H*W*N) arrays."""
    C, M = x.shape
    real = x.dtype.type
    alpha, power, k, beta = real(alpha / size), real(power), real(k), real(beta)
    for tile in prange((M + TILE - 1) // TILE):
        start = np.intp(tile) * TILE
        width = min(TILE, M - start)
        s, p = np.empty(width, x.dtype), np.empty(width, x.dtype)
        for c in range(C):
            inverse_power(x, c, start, size, alpha, power, k, s, p)
            into, out = x[c, start : start + width], y[c, start : start + width]
            for m in range(width):
                value = into[m] * p[m]
                out[m] = value if beta == 0 else beta * out[m] + value


@parallel_kernel()
def lrn_bprop(x, dy, dx, size, alpha, power, k, beta):
    """dx <- beta*dx + J^T dy, on (C, H*W*N) arrays."""
    C, M = x.shape
    real = x.dtype.type
    factor = real(2 * alpha * power / size)
    alpha, power, k, beta = real(alpha / size), real(power), real(k), real(beta)
    for tile in prange((M + TILE - 1) // TILE):
        start = np.intp(tile) * TILE
        width = min(TILE, M - start)
        s, total = np.empty(width, x.dtype), np.empty(width, x.dtype)
        p, share = np.empty((C, width), x.dtype), np.empty((C, width), x.dtype)
        for c in range(C):
            own = p[c]
            inverse_power(x, c, start, size, alpha, power, k, s, own)
            into, delta, part = x[c, start : start + width], dy[c, start : start + width], share[c]
            for m in range(width):
                part[m] = delta[m] * into[m] * own[m] / s[m]
        for c in range(C):
            for m in range(width):
                total[m] = 0
            for j in range(max(c - (size - 1) // 2, 0), min(c + size // 2 + 1, C)):
                part = share[j]
                for m in range(width):
                    total[m] += part[m]
            into, delta, out = (
                x[c, start : start + width],
                dy[c, start : start + width],
                dx[c, start : start + width],
            )
            own = p[c]
            for m in range(width):
                value = delta[m] * own[m] - factor * into[m] * total[m]
                out[m] = value if beta == 0 else beta * out[m] + value
