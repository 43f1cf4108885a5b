"""Gaussian pooling with a tilted Gaussian, which does not factorise: each tap (r, s) has a weight of its own.

    y[j*C + c, p, q, n] = sum over r, s of w[r, s] * x[c, h, w, n],  weights of c, j and the place of (p, q)

Order:    for each row r of the window, a product along the row as in ``gaussian_pool.py``: the weights of row
          r are a band matrix. Tap after tap, then rows, then kernels.
Parallel: fprop over (c, p), bprop over (c, h) for dx, which gathers, and over (c, j) for the weights.
Bytes:    4 read for each x and written for each y, R times, of which R - 1 come from cache.
Source:   the same weights as a depthwise convolution, but for windows over an edge, which have their own.
"""

from typing import Any

import numpy as np
from numba import prange

from minet.loops import parallel_kernel
from minet.loops.gaussian_pool import product
from minet.loops.gaussian_pool_weights import TINY, Axis
from minet.loops.simd.lanes import address
from minet.loops.simd.rows import clear_if_none


class FullTables:
    """What fprop and bprop need to know of an image's windows and weights.

    Parameters
    ----------
    axes : two Axis
    values : arrays (C, J, 2), (C, J, 2), (C, J)
        Means, log sigmas and correlations.
    """

    def __init__(
        self, axes: list[Axis], values: list[np.ndarray], normalize: str, edge: str, dtype: Any
    ) -> None:
        self.axes, self.normalize, self.dtype = axes, normalize, dtype
        rows, cols = axes
        mean, log_sigma, rho = values
        (my, mx), (sy, sx) = (np.moveaxis(v.reshape(-1, 2), 1, 0) for v in (mean, np.exp(log_sigma)))
        self.rho, self.sigma = rho.reshape(-1), (sy, sx)
        with np.errstate(all="ignore"):  # a parameter that is not finite shows in the weights
            # Distances from the mean in standard deviations: (R, 1, sets) and (S, sets).
            self.u, self.v = (rows.offset[:, None, None] - my) / sy, (cols.offset[:, None] - mx) / sx
            self.inside = rows.inside[:, None, :, None, None] & cols.inside[:, None, :, None]
            share = self._share(edge)
            w = np.sqrt(share) if normalize == "l2" else share
            self.share, self.w = share, np.where(self.inside & ~(w <= TINY), w, 0.0)
        # As the loops read it: for each row of the window's places and taps, the bands of a row of the image.
        table = np.ascontiguousarray(self.w.transpose(0, 2, 1, 3, 4))
        self.flat = table.reshape(-1, *table.shape[2:])  # (places * R, places, S, sets)
        self.fprop = self._row_tables(), self._bands(cols.band), len(self.flat)

    def _share(self, edge: str) -> np.ndarray:
        """The weights (places down, places across, R, S, sets) before `normalize`'s square root."""
        u, v, rho = self.u, self.v, self.rho
        square = (u * u - 2 * rho * u * v + v * v) / (1 - rho * rho)
        if self.normalize == "none":
            return np.broadcast_to(np.exp(-0.5 * square), (*self.inside.shape[:4], len(rho)))
        counted = self.inside if edge == "exact" else np.ones_like(self.inside)
        least = np.where(counted, square, np.inf).min((2, 3), keepdims=True)  # one exponential is 1
        share = np.where(counted, np.exp(-0.5 * (square - least)), 0.0)
        return share / share.sum((2, 3), keepdims=True)

    def _row_tables(self) -> tuple[np.ndarray, ...]:
        """Of each row of y: the first row of x that it sees, how many, and where its weights are."""
        band = self.axes[0].band(np.zeros((*self.axes[0].inside.shape, 1)), self.dtype)
        return band.first, band.taps, band.at, band.apart

    def _bands(self, make: Any) -> Any:
        """The bands across of each row of the window, one table after the other."""
        bands = [make(w, self.dtype) for w in self.flat]
        return bands[0]._replace(w=np.concatenate([band.w for band in bands]))

    def bprop(self, x: Any, dy: Any, dx: Any, learn: bool, beta: float) -> dict[str, np.ndarray]:
        """Compute dx unless it is None, and return the slopes of the parameters, by name, if they learn."""
        rows, cols = self.axes
        if dx is not None:
            number = np.arange(rows.inside.size).reshape(*rows.inside.shape, 1)  # of a row of weights
            seen = rows.transposed(number, np.int64)
            table = seen.first, seen.taps, seen.at, seen.apart, np.ascontiguousarray(seen.w[:, 0])
            gaussian_pool_full_dx(dy, dx, table, self._bands(cols.transposed), len(self.flat), beta)
        if not learn:
            return {}
        dw = np.zeros((len(self.flat) * cols.inside.size, len(self.rho)))
        gaussian_pool_full_dw(x, dy, *self.fprop, dw)
        places, R = rows.inside.shape
        return self.slopes(dw.reshape(places, R, *cols.inside.shape, -1).transpose(0, 2, 1, 3, 4))

    def slopes(self, dw: np.ndarray) -> dict[str, np.ndarray]:
        """The slopes of a loss in mean, log sigma and correlation, from those in the weights."""
        (sy, sx), u, v, rho = self.sigma, self.u, self.v, self.rho
        rest = 1 - rho * rho
        square = (u * u - 2 * rho * u * v + v * v) / rest
        # Of the exponents, the derivatives by my, mx, log sy, log sx, rho, as (R, S, sets).
        down, across = (u - rho * v) / rest, (v - rho * u) / rest
        by = [down / sy, across / sx, u * down, v * across, (u * v - rho * square) / rest]
        dw = dw * self.w
        if self.normalize != "none":  # what a weight gains, the others of its window lose
            dw = dw - self.share * dw.sum((2, 3), keepdims=True)
        scale = 0.5 if self.normalize == "l2" else 1.0
        total = dw.sum((0, 1))
        my, mx, sigma_y, sigma_x, correlation = (scale * (total * slope).sum((0, 1)) for slope in by)
        return {
            "mean": np.stack([my, mx], axis=-1),
            "sigma": np.stack([sigma_y, sigma_x], axis=-1),
            "correlation": correlation,
        }


@parallel_kernel
def gaussian_pool_full_fprop(x, y, rows, cols, tables, beta):
    """y <- beta*y + the weighted sums of x.

    `rows` has first, taps, at and apart of each row of windows, as a Band; `cols` holds that many tables of
    weights across, one for each row of weights.
    """
    C, H, W, N = x.shape
    K, P, Q, _ = y.shape
    J = K // C
    first, taps, at, apart = rows
    x, y, size = x.reshape(-1), y.reshape(-1), cols.w.size // tables
    beta, one = y.dtype.type(beta), y.dtype.type(1)
    for task in prange(C * P):
        c, p = divmod(np.int64(task), P)
        for j in range(J):
            to = ((j * C + c) * P + p) * Q * N
            for i in range(taps[p]):
                which, keep = (at[p] + i) * size + c * J + j, beta if i == 0 else one
                row = (c * H + first[p] + i * apart) * W * N
                product(cols, which, y, to, x, row, N, 0, Q, keep, None, 0, None, 0)


@parallel_kernel
def gaussian_pool_full_dx(dy, dx, rows, cols, tables, beta):
    """dx <- beta*dx + what the windows that hold it give back; rows and cols are of the transposes.

    rows[4] has the number of the table across for each of the Band's weights.
    """
    C, H, W, N = dx.shape
    K, P, Q, _ = dy.shape
    J = K // C
    first, taps, at, apart, number = rows
    dy, dx, size = dy.reshape(-1), dx.reshape(-1), cols.w.size // tables
    beta, one = dx.dtype.type(beta), dx.dtype.type(1)
    for task in prange(C * H):
        c, h = divmod(np.int64(task), H)
        to = (c * H + h) * W * N
        clear_if_none(address(dx, to), W * N, taps[h], beta)
        for j in range(J):
            for i in range(taps[h]):
                which, keep = number[at[h] + i] * size + c * J + j, beta if i + j == 0 else one
                row = ((j * C + c) * P + first[h] + i * apart) * Q * N
                product(cols, which, dx, to, dy, row, N, 0, W, keep, None, 0, None, 0)


@parallel_kernel
def gaussian_pool_full_dw(x, dy, rows, cols, tables, dw):
    """dw += the gradient of the weights in `cols`."""
    C, H, W, N = x.shape
    K, P, Q, _ = dy.shape
    first, taps, at, apart = rows
    x, dy, dw, size = x.reshape(-1), dy.reshape(-1), dw.reshape(-1), cols.w.size // tables
    zero = x.dtype.type(0)
    for k in prange(K):
        j, c = divmod(np.int64(k), C)
        for p in range(P):
            for i in range(taps[p]):
                which, row = (at[p] + i) * size + c * (K // C) + j, (c * H + first[p] + i * apart) * W * N
                delta = (k * P + p) * Q * N
                product(cols, which, None, 0, x, row, N, 0, Q, zero, dy, delta, dw, 0)
