"""GaussianPool: pooling under Gaussian windows whose means and widths are learnt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from minet.layer import Array, Layer, Param, Shape
from minet.window import Window

SMALLEST = 0.3  # px; under a narrower window the gradient of the mean vanishes
SPARE = 4  # zeros after each row of weights: the kernels take several taps at a time
TINY = float(np.finfo(np.float32).tiny)  # weights below it are 0: processors are slow at denormal numbers
LEARNT = {"mean": "mean", "sigma": "log_sigma"}  # parameters, by the names of their settings


class GaussianPool(Layer):
    """Weighted sums over windows; the weights are a Gaussian, of which mean and width are learnt.

    Kernel j on channel c weighs the pixel at (r, s) from the window's centre by
    ``w ~ exp(-(r-my)^2 / (2 sy^2) - (s-mx)^2 / (2 sx^2))`` and writes ``y[j*C + c]``. So a layer of J kernels
    equals ``Concat`` of J layers of one, but reads x once. Near the image's border the weights are normalised
    over the part of the window inside, position by position, and the gradients are those of just that.

    Parameters
    ----------
    window, stride, pad : int or (vertical, horizontal)
        Pixels. stride None is the window; pad is smaller than the window.
    kernels : int
        J, the number of Gaussians on each channel.
    mean, sigma : float, (y, x), array (J, 2) or array (C, J, 2), optional
        First values in pixels: means from the window's centre, down and right, and standard deviations of at
        least 0.3; a pair is one (y, x) for all kernels. By default a lone kernel is centred, its sigma a
        quarter of the window; several have sigmas from an eighth to a half of it, and means a sixteenth of it
        off the centre in different directions.
    learn : bool, or some of {"mean", "sigma"}
        What the solver may change. The rest stays in checkpoints, with lr 0 and a gradient of 0.
    per_channel : bool
        Whether each channel has kernels of its own, or all channels share them.
    normalize : {"sum", "l2", "none"}
        The weights sum to one; or their squares do, each weight the square root of that of "sum"; or they are
        the bare exponentials.
    edge : {"exact", "zero"}
        "zero" normalises over the whole window and takes pixels outside as 0, as a convolution would.

    Shapes: ``(C, H, W)`` to ``(J*C, P, Q)``. Learnt: ``mean`` and ``log_sigma``, each ``(C or 1, J, 2)`` in
    the order (y, x), without weight decay.

    Raises
    ------
    LayerError
        If a setting is out of range, the window does not fit the image, or first values do not fit C.

    Notes
    -----
    A diagonal Gaussian over a rectangle factorises: ``Y = Ay X Ax^T``, one band matrix for each axis, each
    row normalised over its own taps; and ``dX = Ay^T dY Ax``. Where the weights w_i of a row sum to one,
    ``dw_i/dm = w_i (d_i - E[d]) / s^2`` and ``dw_i/dlog s = w_i (d_i^2 - E[d^2]) / s^2``, with d_i the
    distance of tap i from the mean and E the average under w.

    "l2" is the form of Zeiler and Fergus, "Differentiable pooling for hierarchical feature learning", 2012
    (arXiv 1207.0151). They infer means and widths for each image and region; here the layer owns them.
    """

    def __init__(
        self,
        window: Any,
        stride: Any = None,
        pad: Any = 0,
        kernels: int = 1,
        mean: Any = None,
        sigma: Any = None,
        learn: bool | str | Iterable[str] = True,
        per_channel: bool = True,
        normalize: str = "sum",
        edge: str = "exact",
    ) -> None:
        self.window = Window.pool(self, window, stride, pad)
        if isinstance(kernels, bool) or not isinstance(kernels, (int, np.integer)) or kernels < 1:
            raise self.error(f"kernels must be a whole number of at least 1, got {kernels!r}")
        self.kernels, self.per_channel = int(kernels), per_channel
        self.normalize, self.edge, self.learn = normalize, edge, self._learnt(learn)
        for name, choices in (
            ("per_channel", (True, False)),
            ("normalize", ("sum", "l2", "none")),
            ("edge", ("exact", "zero")),
        ):
            if getattr(self, name) not in choices:
                allowed = " or ".join(map(repr, choices))
                raise self.error(f"{name} must be {allowed}, got {getattr(self, name)!r}")
        first_mean, first_sigma = spread(self.kernels, self.window.size)
        self.mean = self._first("mean", first_mean if mean is None else mean)
        self.sigma = self._first("sigma", first_sigma if sigma is None else sigma)
        if self.sigma.min() < SMALLEST:
            raise self.error(
                f"sigma must be at least {SMALLEST} px, got {self.sigma.min():g}",
                "a narrower Gaussian picks a single pixel, and could not learn its mean",
            )

    def _learnt(self, learn: Any) -> tuple[str, ...]:
        if isinstance(learn, bool):
            return tuple(LEARNT) if learn else ()
        names = (learn,) if isinstance(learn, str) or not isinstance(learn, Iterable) else tuple(learn)
        if not all(name in tuple(LEARNT) for name in names):
            raise self.error(f"learn must be True, False or some of {', '.join(LEARNT)}, got {learn!r}")
        return tuple(name for name in LEARNT if name in names)

    def _first(self, name: str, value: Any) -> np.ndarray:
        """First values as (J, 2) or (C, J, 2)."""
        hint = f"give {name}=1.5, (y, x), or an array of shape (kernels, 2) or (C, kernels, 2)"
        try:
            values, shape = np.array(value, dtype=float), (self.kernels, 2)
        except (TypeError, ValueError):
            raise self.error(f"{name} must be numbers, in pixels, got {value!r}", hint) from None
        if values.shape in ((), (2,)):
            values = np.broadcast_to(values, shape)
        if values.ndim not in (2, 3) or values.shape[-2:] != shape:
            raise self.error(f"{name} of shape {values.shape} does not fit {self.kernels} kernels", hint)
        if not np.isfinite(values).all():
            raise self.error(f"{name} must be finite, got {value!r}")
        return values

    def out_shape(self, in_shape: Shape) -> Shape:
        sets = in_shape[0] if self.per_channel else 1
        for name, values in (("mean", self.mean), ("sigma", self.sigma)):
            if values.ndim == 3 and len(values) not in (1, sets):
                whose = f"{sets} channels" if self.per_channel else "the one set that channels share"
                raise self.error(f"{name} of shape {values.shape} does not fit {whose}")
        return (self.kernels * in_shape[0], *self.window.out_hw(self, in_shape))

    def params(self, in_shape: Shape) -> dict[str, Param]:
        shape = (in_shape[0] if self.per_channel else 1, self.kernels, 2)
        low = (math.log(SMALLEST), None)
        return {
            "mean": Param(shape, self.mean, decay=False, lr="mean" in self.learn),
            "log_sigma": Param(shape, np.log(self.sigma), decay=False, lr="sigma" in self.learn, bounds=low),
        }

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.kernels.gaussian_pool import gaussian_pool_fprop

        bands = [axis.band(weights.w, x.dtype) for axis, weights in self._axes(x)]
        gaussian_pool_fprop(x, y, *bands, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.kernels.gaussian_pool import gaussian_pool_bprop

        if dx is None and not self.learn:
            return
        (C, H, W, N), P = x.shape, dy.shape[1]
        axes = self._axes(x)
        bands = [axis.band(weights.w, x.dtype) for axis, weights in axes]
        transposed = [axis.transposed(weights.w, x.dtype) for axis, weights in axes]
        # A channel is one thread's work, unless there are few or its delta would not stay in cache.
        wanted = max(8 // C, self.kernels * P * W * N * x.itemsize >> 20)
        blocks = max(1, min(wanted, H // (2 * self.window.size[0])))
        dws = [np.zeros((len(band.w), blocks * C * self.kernels)) for band in bands]
        into = np.empty((0, H, W, N), x.dtype) if dx is None else dx
        gaussian_pool_bprop(x, dy, into, *bands, *transposed, *dws, blocks, bool(self.learn), beta)
        for i, (axis, weights), dw in zip(range(2), axes, dws, strict=True):
            slopes = weights.slopes(axis.weights(dw.reshape(len(dw), blocks, -1).sum(1)))
            for name in self.learn:
                slope = slopes[name].reshape(C, self.kernels)
                self.g[LEARNT[name]][..., i] += slope if self.per_channel else slope.sum(0)

    def _axes(self, x: Array) -> list[tuple[Axis, Weights]]:
        """Geometry and weights along the vertical and the horizontal axis."""
        both, sets = [], (len(x), self.kernels)
        for i, numbers in enumerate(zip(x.shape[1:3], *self.window[:3], strict=True)):
            axis, params = axis_of(*numbers), (self.p.mean[..., i], self.p.log_sigma[..., i])
            mean, log_sigma = (np.broadcast_to(p, sets).astype(np.float64).reshape(-1) for p in params)
            both.append((axis, Weights(axis, mean, log_sigma, self.normalize, self.edge)))
        return both

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: GaussianPool(3, stride=1, pad=1), (3, 7, 6)
        yield lambda: GaussianPool((4, 3), stride=(2, 3), pad=(2, 0), kernels=3), (2, 7, 9)
        yield lambda: GaussianPool(5, 2, 2, kernels=2, per_channel=False, normalize="l2"), (2, 6, 5)
        yield lambda: GaussianPool((2, 5), 1, (1, 4), normalize="none", learn={"mean"}), (3, 4, 3)
        yield lambda: GaussianPool(3, pad=2, edge="zero", mean=(0.4, -5.0), sigma=(0.5, 2.0)), (2, 7, 6)
        yield lambda: GaussianPool((3, 1), stride=(4, 2), learn=False), (2, 8, 3)


def spread(kernels: int, window: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Default means and sigmas (J, 2), all apart: kernels that start alike may stay alike."""
    size, j = np.array(window, dtype=float), np.arange(kernels)[:, None]
    if kernels == 1:
        mean, sigma = np.zeros((1, 2)), size[None] / 4
    else:
        angle = 2 * np.pi * (j + 0.5) / kernels
        mean = size / 16 * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        sigma = size / 8 * 4 ** (j / (kernels - 1))
    return mean, np.maximum(sigma, SMALLEST)


class Weights:
    """Gaussian weights ``w`` (rows, window, sets) along one axis, in float64, from parameters (sets,)."""

    def __init__(self, axis: Axis, mean: Array, log_sigma: Array, normalize: str, edge: str) -> None:
        self.normalize, inside = normalize, axis.inside[..., None]
        self.distance, self.precision = axis.offset[:, None] - mean, np.exp(-2 * log_sigma)
        counted = inside if edge == "exact" else np.ones_like(inside)
        share = np.where(counted, -0.5 * self.precision * self.distance**2, -np.inf)
        if normalize != "none":
            share -= share.max(1, keepdims=True)  # however far the mean, one exponential of a row is 1
        np.exp(share, out=share)
        if normalize != "none":
            share /= share.sum(1, keepdims=True)
        self.share, w = share, np.sqrt(share) if normalize == "l2" else share
        self.w = np.where(inside & (w > TINY), w, 0.0)

    def slopes(self, dw: np.ndarray) -> dict[str, np.ndarray]:
        """The slopes of a loss in mean and in log sigma (sets,), from those in the weights."""
        dw, slopes = dw * self.w, {}
        for name, moment in (("mean", self.distance), ("sigma", self.distance**2)):
            total = (dw * moment).sum(1)
            if self.normalize != "none":
                total -= dw.sum(1) * (self.share * moment).sum(1)
            slopes[name] = total.sum(0) * self.precision * (0.5 if self.normalize == "l2" else 1.0)
        return slopes


class Axis:
    """Windows along one axis: which inputs each output sees, and by which outputs each input is seen."""

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
        self._band = first, end - first, row * (window + SPARE) + first - start, runs(row, first)
        # Input h is seen by `seen` outputs from low on, with the weights at `index`; there is a 0 at -1.
        h = np.arange(size)
        low = np.maximum(-((window - 1 - h - pad) // stride), 0)
        seen = np.maximum(np.minimum((h + pad) // stride + 1, outputs) - low, 0)
        nth = np.arange(seen.max() + SPARE)
        p = np.minimum(low[:, None] + nth, outputs - 1)
        index = np.where(nth < seen[:, None], row[p] * window + h[:, None] + pad - p * stride, -1)
        self._index, row = np.unique(index, axis=0, return_inverse=True)
        row = row.reshape(-1)
        self._transposed = low, seen, row * len(nth), runs(row, low)

    def band(self, w: np.ndarray, dtype: Any) -> Any:
        """The Band of weights (rows, window, sets)."""
        from minet.kernels.gaussian_pool import Band

        table = np.zeros((len(w), w.shape[1] + SPARE, w.shape[2]), dtype)
        table[:, : w.shape[1]] = w
        return Band(*self._band, table.reshape(-1, w.shape[2]))

    def transposed(self, w: np.ndarray, dtype: Any) -> Any:
        """The transpose of that matrix."""
        from minet.kernels.gaussian_pool import Band

        table = np.zeros((w[..., 0].size + 1, w.shape[2]), dtype)
        table[:-1] = w.reshape(-1, w.shape[2])
        return Band(*self._transposed, table[self._index.reshape(-1)])

    def weights(self, table: np.ndarray) -> np.ndarray:
        """What a table like that of `band` holds for the weights (rows, window, sets)."""
        rows, window = self.inside.shape
        return table.reshape(rows, window + SPARE, -1)[:, :window]


axis_of = lru_cache(maxsize=1024)(Axis)


def runs(row: np.ndarray, first: np.ndarray) -> np.ndarray:
    """For each k the number of rows, from k on, of the same weights, each one column further on."""
    run = np.ones_like(first)
    for k in range(len(run) - 2, -1, -1):
        if row[k] == row[k + 1] and first[k] + 1 == first[k + 1]:
            run[k] += run[k + 1]
    return run
