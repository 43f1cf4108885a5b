"""Gaussian pooling: a plane X of x becomes Y = Ay X Ax^T, each A a band matrix of 1-D Gaussian weights.

    y[j*C + c, p, q, n] = sum over h, w of Ay[p, h] * x[c, h, w, n] * Ax[q, w],  A of channel c and kernel j
    E = dY Ax,  dX = sum over j of Ay^T E,  dAy = E X^T,  dAx = dY^T (Ay X),  the last two on the bands alone

Order:    vertical products go along rows of (w, n), horizontal ones along rows of n, or of (q, n) where
          weights repeat. Taps are summed in ascending order, then kernels.
Parallel: fprop over (c, p), bprop over c, and over blocks of h if there are few channels. bprop gathers:
          each dx element has one owner; each (block, c, j) has its own sums for dA, which the caller adds up.
Bytes:    fprop reads 4 for each x and writes 4 for each y; bprop reads 4 for each x and dy and writes 4 for
          each dx, for any J. E of one channel or block, (J, P, W, N), stays in L2 between its uses.
Source:   a diagonal Gaussian over a rectangle factorises. ``gaussian_pool_weights.py`` handles edges and
          normalisation, which the kernels know nothing of; `Band` describes how Ay and Ax are stored.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, scratch
from minet.loops.simd.lanes import address, ahead
from minet.loops.simd.rows import combine

LONGEST = 4096  # elements of a row at a time: the sums of dA over them are float32, and then added in float64


class Band(NamedTuple):
    """A band matrix as the kernels read it, in several sets that differ in weights alone.

    Row k has `taps[k]` weights, on the columns from `first[k]` on, `apart` from one to the next; those of set
    s are ``w[at[k]:, s]``. From row k on, `run[k]` rows have the same weights, each one column further right
    than the row before.

    It is defined here because Numba's cache names argument types by their module, which must be the same for
    every user of the cache.
    """

    first: np.ndarray
    taps: np.ndarray
    at: np.ndarray
    run: np.ndarray
    apart: int
    w: np.ndarray


@kernel(inline="always")
def product(band, which, out, o, src, a, pitch, lo, hi, beta, d, e, g, into):
    """Rows lo .. hi-1 of out <- beta*out + A src, `pitch` long, row lo at out[o], src's row 0 at src[a].

    Unless d is None, g += the gradient of A's weights, in their order from g[into] on, where d is the
    product's delta, row lo at d[e].
    """
    step = band.w.shape[1]
    o, e, k = np.int64(o), np.int64(e), lo  # combine would recompile for each literal 0
    while k < hi:
        run = min(band.run[k], hi - k)
        n, at = run * pitch, band.at[k] * step
        first, w = address(src, a + band.first[k] * pitch), address(band.w, at + which)
        to, delta, slope = address(out, o), address(d, e), address(g, into + at + which)
        for i in range(0, n, LONGEST):
            part, x, dy = min(n - i, LONGEST), ahead(first, i), ahead(delta, i)
            combine(ahead(to, i), x, pitch * band.apart, part, band.taps[k], w, step, beta, dy, slope)
        o, e, k = o + n, e + n, k + run


@parallel_kernel
def gaussian_pool_fprop(x, y, rows, cols, beta):
    """y <- beta*y + Ay X Ax^T, with the Bands `rows` of Ay and `cols` of Ax."""
    C, H, W, N = x.shape
    K, P, Q, _ = y.shape
    J = K // C
    x, y = x.reshape(-1), y.reshape(-1)
    beta, zero = y.dtype.type(beta), y.dtype.type(0)
    for task in prange(C * P):
        c, p = divmod(np.int64(task), P)
        v = scratch(W * N, x)
        for j in range(J):
            which, at = c * J + j, ((j * C + c) * P + p) * Q * N
            product(rows, which, v, 0, x, c * H * W * N, W * N, p, p + 1, zero, None, 0, None, 0)
            product(cols, which, y, at, v, 0, N, 0, Q, beta, None, 0, None, 0)


@parallel_kernel
def gaussian_pool_bprop(x, dy, dx, rows, cols, rows_t, cols_t, begin, g_rows, g_cols, blocks, learn, beta):
    """dx <- beta*dx + Ay^T dY Ax, unless dx is empty; if `learn`, g_rows += dAy and g_cols += dAx.

    The Bands rows_t and cols_t are the transposes. From begin[h] on, outputs see nothing above row h. g_rows
    and g_cols are (block, row of the Band, (c, j)).
    """
    C, H, W, N = x.shape
    K, P, Q, _ = dy.shape
    J = K // C
    x, dy, dx = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    beta, zero, one = x.dtype.type(beta), x.dtype.type(0), x.dtype.type(1)
    for task in prange(blocks * C):
        block, c = divmod(np.int64(task), C)
        h0, h1 = H * block // blocks, H * (block + 1) // blocks
        p0, mine = begin[h0], begin[h1]  # from `mine` on, the next block sums dA
        p1 = mine
        for h in range(h0, h1):
            p1 = max(p1, rows_t.first[h] + (rows_t.taps[h] - 1) * rows_t.apart + 1)
        v, e = scratch(W * N, x), scratch(J * (p1 - p0) * W * N, x)
        into_rows, into_cols = block * rows.w.size, block * cols.w.size
        for j in range(J):
            which = c * J + j
            for p in range(p0, p1):
                at, delta = (j * (p1 - p0) + p - p0) * W * N, ((j * C + c) * P + p) * Q * N
                product(cols_t, which, e, at, dy, delta, N, 0, W, zero, None, 0, None, 0)
                if learn and p < mine:
                    plane = c * H * W * N
                    product(rows, which, v, 0, x, plane, W * N, p, p + 1, zero, e, at, g_rows, into_rows)
                    product(cols, which, None, 0, v, 0, N, 0, Q, zero, dy, delta, g_cols, into_cols)
        if len(dx):
            for h in range(h0, h1):
                for j in range(J):
                    at, keep = (c * H + h) * W * N, beta if j == 0 else one
                    row0 = (j * (p1 - p0) - p0) * W * N
                    product(rows_t, c * J + j, dx, at, e, row0, W * N, h, h + 1, keep, None, 0, None, 0)
