"""The weights of Gaussian pooling in float64, their slopes, and the band matrices that loops multiply by."""

from functools import lru_cache
from typing import Any

import numpy as np

from minet.loops.gaussian_pool import Band, gaussian_pool_bprop
from minet.loops.window import spans

TINY = float(np.finfo(np.float32).tiny)  # smaller weights become 0: processors are slow with denormal numbers


class Axis:
    """Windows along one axis: which inputs each output sees, and which outputs see each input.

    Attributes
    ----------
    offset : array (window,)
        Of each tap from the window's centre, in taps.
    inside : array (rows, window)
        Which taps lie inside the image, in each of the rows of weights: windows that have the same parts of
        them inside share a row.
    row : array (outputs,)
        Of each output.
    begin : array (size + 1,)
        The first output that sees any of the inputs from each on.
    """

    def __init__(self, size: int, outputs: int, window: int, stride: int, pad: int, dilation: int) -> None:
        seen = spans(size, outputs, window, stride, pad, dilation, -1)
        start = np.arange(outputs) * stride - pad
        tap, first = np.arange(window), (seen.first - start) // dilation
        self.offset = tap - (window - 1) / 2
        parts, row = np.unique(np.stack([first, first + seen.taps], axis=1), axis=0, return_inverse=True)
        self.row = row.reshape(-1)  # NumPy 2.0 gives a column
        self.inside = (parts[:, :1] <= tap) & (tap < parts[:, 1:])
        at = self.row * window + first
        self._band = seen.first, seen.taps, at, runs(self.row, seen.first), dilation
        self.begin = np.minimum.accumulate(np.append(seen.low, outputs)[::-1])[::-1].copy()
        # Input h is seen by `held` outputs from `low` on, with the weights at `index`; index -1 holds a 0.
        low, held = np.minimum(seen.low, outputs - 1), seen.held
        nth = np.arange(held.max())
        p = np.minimum(low[:, None] + nth * seen.apart, outputs - 1)
        r = (np.arange(size)[:, None] - start[p]) // dilation
        index = np.where(nth < held[:, None], self.row[p] * window + r, -1)
        self._index, row = np.unique(index, axis=0, return_inverse=True)
        row = row.reshape(-1)
        self._transposed = low, held, row * len(nth), runs(row, low), seen.apart

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


class Weights:
    """Gaussian weights ``w`` (rows, window, sets) along one axis, in float64, from parameters (sets,).

    Normalised weights are computed about the counted tap that is nearest to the mean, so that nothing
    cancels however far away the mean is: with t the distance from that tap, and d0 the tap's from the mean,
    exponents differ by ``-t (t + 2 d0) / (2 sigma^2)``.
    """

    def __init__(
        self, axis: Axis, mean: np.ndarray, log_sigma: np.ndarray, normalize: str, edge: str
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


class Tables:
    """What fprop and bprop need to know of an image's windows and weights.

    Parameters
    ----------
    axes : two Axis
    values : arrays (C, J, 2)
        Means and log sigmas.
    """

    def __init__(
        self, axes: list[Axis], values: list[np.ndarray], normalize: str, edge: str, dtype: Any
    ) -> None:
        self.axes = axes
        self.weights = [
            Weights(axis, values[0][..., i].reshape(-1), values[1][..., i].reshape(-1), normalize, edge)
            for i, axis in enumerate(axes)
        ]
        pairs = list(zip(axes, self.weights, strict=True))
        self.fprop = [axis.band(weights.w, dtype) for axis, weights in pairs]
        self.transposed = [axis.transposed(weights.w, dtype) for axis, weights in pairs]

    def bprop(self, x: Any, dy: Any, dx: Any, learn: bool, beta: float) -> dict[str, np.ndarray]:
        """Compute dx unless it is None, and return the slopes of the parameters, (C*J, 2), if they learn."""
        (C, H, W, N), (K, P, _, _) = x.shape, dy.shape
        rows = self.axes[0]
        # One thread per channel, unless channels are few or a channel's delta would not stay in cache.
        wanted = max(8 // C, K // C * P * W * N * x.itemsize >> 20)
        blocks = max(1, min(wanted, H // (2 * len(rows.offset))))
        dws = [np.zeros((blocks, *band.w.shape)) for band in self.fprop]
        into = np.empty((0, H, W, N), x.dtype) if dx is None else dx
        gaussian_pool_bprop(x, dy, into, *self.fprop, *self.transposed, rows.begin, *dws, blocks, learn, beta)
        if not learn:
            return {}
        slopes = [
            weights.slopes(axis.weights(dw.sum(0)))
            for axis, weights, dw in zip(self.axes, self.weights, dws, strict=True)
        ]
        return {name: np.stack([slope[name] for slope in slopes], axis=-1) for name in ("mean", "sigma")}
