"""Gaussian pooling: a plane X of x becomes Y = Ay X Ax^T, each A a band matrix of 1-D Gaussian weights.

    y[j*C + c, p, q, n] = sum over h, w of Ay[p, h] * x[c, h, w, n] * Ax[q, w],  A of channel c and kernel j
    E = dY Ax,  dX = sum over j of Ay^T E,  dAy = E X^T,  dAx = dY^T (Ay X),  the last two on the bands alone

Order:    vertical products go along rows of (w, n), horizontal ones along rows of n, or of (q, n) where
          weights repeat. Taps are summed in ascending order, then kernels.
Parallel: fprop over (c, p), bprop over c, and over blocks of h if there are few channels. bprop gathers:
          each dx element has one owner; each (block, c, j) has its own sums for dA, which the caller adds up.
Bytes:    fprop reads 4 for each x and writes 4 for each y; bprop reads 4 for each x and dy and writes 4 for
          each dx, for any J. E of one channel or block, (J, P, W, N), stays in L2 between its uses.
Source:   a diagonal Gaussian over a rectangle factorises. `Weights` handles edges and normalisation,
          which the kernels know nothing of; `Band` describes how Ay and Ax are stored.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, scratch
from minet.loops.simd.lanes import address, ahead
from minet.loops.simd.rows import combine

TINY = float(np.finfo(np.float32).tiny)  # smaller weights become 0: processors are slow with denormal numbers
LONGEST = 4096  # elements of a row at a time: the sums of dA over them are float32, and then added in float64


class Band(NamedTuple):
    """A band matrix as the kernels read it, in several sets that differ in weights alone.

    Row k has `taps[k]` weights, on the columns from `first[k]` on; those of set s are ``w[at[k]:, s]``. From
    row k on, `run[k]` rows have the same weights, each one column further right than the row before.

    It is defined here because Numba's cache names argument types by their module, which must be the same for
    every user of the cache.
    """

    first: np.ndarray
    taps: np.ndarray
    at: np.ndarray
    run: np.ndarray
    w: np.ndarray


class Weights:
    """Gaussian weights ``w`` (rows, window, sets) along one axis, in float64, from parameters (sets,).

    Normalised weights are computed about the counted tap that is nearest to the mean, so that nothing
    cancels however far away the mean is: with t the distance from that tap, and d0 the tap's from the mean,
    exponents differ by ``-t (t + 2 d0) / (2 sigma^2)``.
    """

    def __init__(
        self, axis: "Axis", mean: np.ndarray, log_sigma: np.ndarray, normalize: str, edge: str
    ) -> None:
        self.normalize, inside = normalize, axis.inside[..., None]
        counted = inside if edge == "exact" else np.ones_like(inside)
        offset = axis.offset[:, None]
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # a parameter that is not finite shows in the weights
            self.precision = np.exp(-2 * log_sigma)
            if normalize == "none":
                self.moments = offset - mean, (offset - mean) ** 2
                share = np.exp(-0.5 * ((offset - mean) * np.exp(-log_sigma)) ** 2)
            else:
                first = np.where(counted, offset, np.inf).min(1)[:, None]
                last = np.where(counted, offset, -np.inf).max(1)[:, None]
                nearest = abs(offset - np.clip(mean, first, last)).argmin(1)[:, None]
                t = offset - axis.offset[nearest]
                self.moments = t, t * (t + 2 * (axis.offset[nearest] - mean))
                share = np.where(counted, np.exp(-0.5 * self.precision * self.moments[1]), 0.0)
                share /= share.sum(1, keepdims=True)
        self.share, w = share, np.sqrt(share) if normalize == "l2" else share
        self.w = np.where(inside & ~(w <= TINY), w, 0.0)

    def slopes(self, dw: np.ndarray) -> dict[str, np.ndarray]:
        """Return the slopes of a loss in mean and log sigma (sets,), from its slopes in the weights."""
        dw, slopes = dw * self.w, {}
        for name, moment in zip(("mean", "sigma"), self.moments, strict=True):
            total = (dw * moment).sum(1)
            if self.normalize != "none":
                total -= dw.sum(1) * (self.share * moment).sum(1)
            slopes[name] = total.sum(0) * self.precision * (0.5 if self.normalize == "l2" else 1.0)
        return slopes


class Axis:
    """Windows along one axis: which inputs each output sees, and which outputs see each input."""

    def __init__(self, size: int, window: int, stride: int, pad: int) -> None:
        outputs = (size + 2 * pad - window) // stride + 1
        start = np.arange(outputs) * stride - pad
        first, end = np.maximum(start, 0), np.minimum(start + window, size)
        tap = np.arange(window)
        self.offset = tap - (window - 1) / 2
        # Outputs that see the same part of their window share a row of weights.
        parts = np.stack([first - start, end - start], axis=1)
        parts, row = np.unique(parts, axis=0, return_inverse=True)
        row = row.reshape(-1)  # NumPy 2.0 gives a column
        self.inside = (parts[:, :1] <= tap) & (tap < parts[:, 1:])
        self._band = first, end - first, row * window + first - start, runs(row, first)
        # Input h is seen by `seen` outputs from `low` on, with the weights at `index`; index -1 holds a 0.
        h = np.arange(size)
        low = np.maximum(-((window - 1 - h - pad) // stride), 0)
        seen = np.maximum(np.minimum((h + pad) // stride + 1, outputs) - low, 0)
        nth = np.arange(seen.max())
        p = np.minimum(low[:, None] + nth, outputs - 1)
        index = np.where(nth < seen[:, None], row[p] * window + h[:, None] + pad - p * stride, -1)
        self._index, row = np.unique(index, axis=0, return_inverse=True)
        row = row.reshape(-1)
        self._transposed = low, seen, row * len(nth), runs(row, low)

    def band(self, w: np.ndarray, dtype: Any) -> Any:
        """Return the Band of weights (rows, window, sets)."""
        return Band(*self._band, w.reshape(-1, w.shape[2]).astype(dtype))

    def transposed(self, w: np.ndarray, dtype: Any) -> Any:
        """Return the Band of the transposed matrix."""
        table = np.zeros((w[..., 0].size + 1, w.shape[2]), dtype)
        table[:-1] = w.reshape(-1, w.shape[2])
        return Band(*self._transposed, table[self._index.reshape(-1)])

    def weights(self, table: np.ndarray) -> np.ndarray:
        """Reshape a table with the layout of `band` to that of the weights (rows, window, sets)."""
        return table.reshape(*self.inside.shape, -1)


axis_of = lru_cache(maxsize=1024)(Axis)


def runs(row: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return, for each k, how many rows from k on have the same weights, each one column further right."""
    run = np.ones_like(first)
    for k in range(len(run) - 2, -1, -1):
        if row[k] == row[k + 1] and first[k] + 1 == first[k + 1]:
            run[k] += run[k + 1]
    return run


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
            combine(ahead(to, i), x, pitch, part, band.taps[k], w, step, beta, dy, slope)
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
def gaussian_pool_bprop(x, dy, dx, rows, cols, rows_t, cols_t, g_rows, g_cols, blocks, learn, beta):
    """dx <- beta*dx + Ay^T dY Ax, unless dx is empty; if `learn`, g_rows += dAy and g_cols += dAx.

    The Bands rows_t and cols_t are the transposes. g_rows and g_cols are (block, row of the Band, (c, j)).
    """
    C, H, W, N = x.shape
    K, P, Q, _ = dy.shape
    J = K // C
    x, dy, dx = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    beta, zero, one = x.dtype.type(beta), x.dtype.type(0), x.dtype.type(1)
    for task in prange(blocks * C):
        block, c = divmod(np.int64(task), C)
        h0, h1 = H * block // blocks, H * (block + 1) // blocks
        p0, p1 = rows_t.first[h0], rows_t.first[h1 - 1] + rows_t.taps[h1 - 1]
        mine = P if h1 == H else rows_t.first[h1]  # from here on, the next block sums dA
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
