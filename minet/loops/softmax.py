"""Softmax across maps: y[c] = exp(x[c] - most) / sum of exp(x[k] - most), with most the largest x[k].

dx[c] = y[c] * (d[c] - sum of y[k] * d[k]), d = dy - dy[top], with top the map of the largest x: what all dy
have in common cancels before it is rounded, so dx keeps its digits where y[top] is almost 1.

Order:    columns of (C, H*W*N), a tile of them at a time through all maps; sums in ascending map, in float64.
Parallel: over tiles. bprop recomputes y from x: no memory is kept for it.
Bytes:    per element in float32: 8 forward, 12 backward, 4 more if beta is not 0; a tile's y stays in cache.
Source:   Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel
from minet.loops.simd.functions import exp

TILE = 64  # columns


@kernel()
def probabilities(x, start, p, top):
    """p <- the tile's y, and top <- the map of the largest x, for the columns from `start`."""
    width = top.size
    most, total = x[0, start : start + width].copy(), np.zeros(width, np.float64)
    for m in range(width):
        top[m] = 0
    for c in range(1, len(x)):
        row = x[c, start : start + width]
        for m in range(width):
            if row[m] > most[m]:
                most[m], top[m] = row[m], c
    for c in range(len(x)):
        row, own = x[c, start : start + width], p[c]
        for m in range(width):
            own[m] = exp(row[m] - most[m])
        for m in range(width):
            total[m] += own[m]
    for c in range(len(x)):
        own = p[c]
        for m in range(width):
            own[m] = own[m] / total[m]


@parallel_kernel()
def softmax_fprop(x, y, beta):
    """y <- beta*y + f(x), on (C, H*W*N) arrays."""
    C, M = x.shape
    beta = x.dtype.type(beta)
    for tile in prange((M + TILE - 1) // TILE):
        start = np.intp(tile) * TILE
        width = min(TILE, M - start)
        p, top = np.empty((C, width), x.dtype), np.empty(width, np.intp)
        probabilities(x, start, p, top)
        for c in range(C):
            own, out = p[c], y[c, start : start + width]
            for m in range(width):
                out[m] = own[m] if beta == 0 else beta * out[m] + own[m]


@parallel_kernel()
def softmax_bprop(x, dy, dx, beta):
    """dx <- beta*dx + J^T dy, on (C, H*W*N) arrays."""
    C, M = x.shape
    beta = x.dtype.type(beta)
    for tile in prange((M + TILE - 1) // TILE):
        start = np.intp(tile) * TILE
        width = min(TILE, M - start)
        p, top = np.empty((C, width), x.dtype), np.empty(width, np.intp)
        probabilities(x, start, p, top)
        common, mean = np.empty(width, x.dtype), np.zeros(width, np.float64)
        for m in range(width):
            common[m] = dy[top[m], start + m]
        for c in range(C):
            own, delta = p[c], dy[c, start : start + width]
            for m in range(width):
                mean[m] += own[m] * (delta[m] - common[m])
        for c in range(C):
            own, delta, out = p[c], dy[c, start : start + width], dx[c, start : start + width]
            for m in range(width):
                value = x.dtype.type(own[m] * ((delta[m] - common[m]) - mean[m]))
                out[m] = value if beta == 0 else beta * out[m] + value
