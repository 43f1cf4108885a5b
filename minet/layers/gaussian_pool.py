"""GaussianPool: pooling under Gaussian windows with learned means and widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minet.core import drawing
from minet.core.layer import Array, Layer, Param, Shape, State
from minet.core.window import Window, bands

SMALLEST = 0.3  # px; under a narrower Gaussian the gradient of the mean vanishes
THREADS = 256  # per block on a GPU
HELD = 40 << 10  # most bytes of tables in a block's shared memory
LEARNED = {"mean": "mean", "sigma": "log_sigma"}  # parameters, by the names of their settings


class GaussianPool(Layer):
    """Weighted sums over windows; the weights are a Gaussian with learned mean and width.

    Kernel j on channel c weighs the pixel at (r, s) from the window's centre by
    ``w ~ exp(-(r-my)^2 / (2 sy^2) - (s-mx)^2 / (2 sx^2))`` and writes ``y[j*C + c]``. A layer of J kernels
    thus equals ``Concat`` of J layers of one, but reads x once. Near the image's border the weights are
    normalised over the part of the window inside, position by position, and the gradients are exact for that.

    Shapes: ``(C, H, W)`` to ``(J*C, P, Q)``. Learned: ``mean`` and ``log_sigma``, each ``(C or 1, J, 2)`` in
    the order (y, x), without weight decay.

    Parameters
    ----------
    window, stride, pad : int or (vertical, horizontal)
        Pixels. stride None is the window; pad is smaller than the window.
    kernels : int
        J, the number of Gaussians on each channel.
    mean, sigma : float, (y, x), array (J, 2) or array (C, J, 2), optional
        Initial values in pixels: means from the window's centre, down and right, and standard deviations of
        at least 0.3. A pair is one (y, x) for all kernels. By default a single kernel is centred, with sigma
        a quarter of the window; several have sigmas from an eighth to half of it, and means a sixteenth of it
        off centre, in different directions.
    learn : bool, or some of {"mean", "sigma"}
        What the solver may change. The rest is still saved in checkpoints, with lr 0 and gradient 0.
    per_channel : bool
        Whether each channel has its own kernels, or all channels share them.
    normalize : {"sum", "l2", "none"}
        "sum": the weights sum to one. "l2": their squares do, each weight being the square root of that of
        "sum". "none": they are the bare exponentials.
    edge : {"exact", "zero"}
        "zero" normalises over the whole window and counts pixels outside as 0, as a convolution would.

    Raises
    ------
    LayerError
        If a setting is out of range, the window does not fit the image, or initial values do not fit C.

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
        self._kept: tuple[Any, Any] = (None, None)
        if isinstance(kernels, bool) or not isinstance(kernels, (int, np.integer)) or kernels < 1:
            raise self.error(f"kernels must be a whole number of at least 1, got {kernels!r}")
        self.kernels, self.per_channel = int(kernels), per_channel
        self.normalize, self.edge, self.learn = normalize, edge, self._learned(learn)
        for name, choices in (
            ("per_channel", (True, False)),
            ("normalize", ("sum", "l2", "none")),
            ("edge", ("exact", "zero")),
        ):
            if getattr(self, name) not in choices:
                allowed = " or ".join(map(repr, choices))
                raise self.error(f"{name} must be {allowed}, got {getattr(self, name)!r}")
        first_mean, first_sigma = spread(self.kernels, self.window.size)
        self.firsts = {
            "mean": self._first("mean", first_mean if mean is None else mean),
            "sigma": self._first("sigma", first_sigma if sigma is None else sigma),
        }
        if (smallest := self.firsts["sigma"].min()) < SMALLEST:
            raise self.error(
                f"sigma must be at least {SMALLEST} px, got {smallest:g}",
                "a narrower Gaussian picks a single pixel and cannot learn its mean",
            )

    def _learned(self, learn: Any) -> tuple[str, ...]:
        if isinstance(learn, bool):
            return tuple(LEARNED) if learn else ()
        names = (learn,) if isinstance(learn, str) or not isinstance(learn, Iterable) else tuple(learn)
        if not all(name in tuple(LEARNED) for name in names):
            raise self.error(f"learn must be True, False or some of {', '.join(LEARNED)}, got {learn!r}")
        return tuple(name for name in LEARNED if name in names)

    def _first(self, name: str, value: Any) -> np.ndarray:
        """Initial values as (J, 2) or (C, J, 2)."""
        hint = f"use {name}=1.5, (y, x), or an array of shape (kernels, 2) or (C, kernels, 2)"
        try:
            values, shape = np.array(value, dtype=float), (self.kernels, 2)
        except (TypeError, ValueError):
            raise self.error(f"{name} must be numbers, in pixels, got {value!r}", hint) from None
        if values.shape in ((), (2,)):
            values = np.broadcast_to(values, shape)
        if values.ndim not in (2, 3) or values.shape[-2:] != shape:
            raise self.error(f"{name} of shape {values.shape} does not fit kernels={self.kernels}", hint)
        if not np.isfinite(values).all():
            raise self.error(f"{name} must be finite, got {value!r}")
        return values

    def out_shape(self, in_shape: Shape) -> Shape:
        sets = in_shape[0] if self.per_channel else 1
        for name, values in self.firsts.items():
            if values.ndim == 3 and len(values) not in (1, sets):
                whose = f"{sets} channels" if self.per_channel else "the one set that all channels share"
                raise self.error(f"{name} of shape {values.shape} does not fit {whose}")
        return (self.kernels * in_shape[0], *self.window.out_hw(self, in_shape))

    def params(self, in_shape: Shape) -> dict[str, Param]:
        shape = (in_shape[0] if self.per_channel else 1, self.kernels, 2)
        low = (math.log(SMALLEST), None)
        return {
            "mean": Param(shape, self.firsts["mean"], decay=False, lr="mean" in self.learn),
            "log_sigma": Param(
                shape, np.log(self.firsts["sigma"]), decay=False, lr="sigma" in self.learn, bounds=low
            ),
        }

    @property
    def mean(self) -> np.ndarray:
        """The means in pixels as learned so far, ``(C or 1, J, 2)``; in an unbound layer, the first ones."""
        return np.array(self.be.get(self.p.mean)) if self.bound else self.firsts["mean"]

    @property
    def sigma(self) -> np.ndarray:
        """The standard deviations in pixels, as `mean`."""
        return np.exp(self.be.get(self.p.log_sigma)) if self.bound else self.firsts["sigma"]

    def _repr_svg_(self) -> str:
        means, sigmas = (values.reshape(-1, self.kernels, 2) for values in (self.mean, self.sigma))
        return drawing.gaussians(means, sigmas, self.window.size)  # in a notebook

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.gaussian_pool import gaussian_pool_fprop

        gaussian_pool_fprop(x, y, *self._tables_on(x)[1], beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.gaussian_pool import gaussian_pool_bprop

        if dx is None and not self.learn:
            return
        (C, H, W, N), P = x.shape, dy.shape[1]
        axes, bands, transposed = self._tables_on(x)
        # One thread per channel, unless channels are few or a channel's delta would not stay in cache.
        wanted = max(8 // C, self.kernels * P * W * N * x.itemsize >> 20)
        blocks = max(1, min(wanted, H // (2 * self.window.size[0])))
        dws = [np.zeros((blocks, *band.w.shape)) for band in bands]
        into = np.empty((0, H, W, N), x.dtype) if dx is None else dx
        gaussian_pool_bprop(x, dy, into, *bands, *transposed, *dws, blocks, bool(self.learn), beta)
        for i, (axis, weights), dw in zip(range(2), axes, dws, strict=True):
            slopes = weights.slopes(axis.weights(dw.sum(0)))
            for name in self.learn:
                slope = slopes[name].reshape(C, self.kernels)
                self.g[LEARNED[name]][..., i] += slope if self.per_channel else slope.sum(0)

    def _tables_on(self, x: Array) -> tuple[list[Any], list[Any], list[Any]]:
        """Geometry and weights along both axes, bands and transposes; rebuilt when parameters change."""
        key = x.shape[:3], x.dtype, self.p.mean.tobytes(), self.p.log_sigma.tobytes()
        if key != self._kept[0]:
            axes = self._axes(x)
            bands = [axis.band(weights.w, x.dtype) for axis, weights in axes]
            transposed = [axis.transposed(weights.w, x.dtype) for axis, weights in axes]
            self._kept = key, (axes, bands, transposed)
        return self._kept[1]

    def _axes(self, x: Array) -> list[tuple[Any, Any]]:
        """Geometry and weights along the vertical and the horizontal axis."""
        from minet.loops.gaussian_pool import Weights, axis_of

        both, sets = [], (len(x), self.kernels)
        for i, numbers in enumerate(zip(x.shape[1:3], *self.window[:3], strict=True)):
            axis, params = axis_of(*numbers), (self.p.mean[..., i], self.p.log_sigma[..., i])
            mean, log_sigma = (np.broadcast_to(p, sets).astype(np.float64).reshape(-1) for p in params)
            both.append((axis, Weights(axis, mean, log_sigma, self.normalize, self.edge)))
        return both

    # -- on a GPU: one pass over the images ------------------------------------------------------------

    def constants(self) -> dict[str, Any]:
        rows, across = self.window.size[0], self.window.reach[1]
        return self.window.constants() | {
            "KERNELS": self.kernels,
            "LEARN": int(bool(self.learn)),
            "NORMALIZE": self.normalize.upper(),
            "EXACT": int(self.edge == "exact"),
            "LANES": 2,
            "APART": int(self.kernels * self._table() * 4 > HELD),
            # Blocks per multiprocessor: more of them hide memory latency, as far as registers allow.
            "RESIDENT": 4 if rows <= 3 and self.kernels == 1 else 2 if rows <= 11 and across <= 6 else 1,
        }

    def _table(self) -> int:
        """Numbers in one kernel's tables: three for each tap of each distinct window, along both axes."""
        places = [
            (2 * -(-pad // stride) + 1 + axis) * -(-taps // 4) * 4
            for axis, (taps, stride, pad) in enumerate(zip(*self.window[:3], strict=True))
        ]
        return 3 * sum(places)

    def _grid(self, C: int, rows: int, width: int, N: int, reach: int, lanes: int = 1) -> tuple[Shape, Shape]:
        """Blocks and threads for marches down `rows` rows in `width` columns of C channels.

        Neighbours along N are neighbours in a block; bands of rows overlap by less than `reach`.
        """
        groups = N // lanes
        n = min(32, 1 << groups.bit_length() - 1)
        columns = max(32 // n, min(THREADS // n, 1 << (width - 1).bit_length()))
        across = -(-groups // n) * -(-width // columns)
        return (across * C, bands(C * width * groups, rows, reach), 1), (n, columns, 1)

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        (C, H, W), state = in_shape, {}
        if self.constants()["APART"]:
            sets = (C if self.per_channel else 1) * self.kernels
            state["tables"] = State((sets * self._table(),), per_sample=False)
        if self.learn:  # four sums per block; N samples take at most 2N times the blocks of one
            blocks = math.prod(self._grid(C, H, W, 1, self.window.size[0])[0])
            state["parts"] = State((2 * 4 * self.kernels * blocks,), scratch=True)
        return state

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        (_, P, Q, N), lanes = y.shape, self.be.lanes(self.constants()["LANES"], x, y)
        grid, block = self._grid(len(x), P, Q, N, self.window.reach[0], lanes)
        self._launch("fprop", grid, block, x=x, y=y, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is None and not self.learn:
            return
        (C, H, W, N), lanes = x.shape, self.be.lanes(self.constants()["LANES"], x, dy, dx)
        grid, block = self._grid(C, H, W, N, self.window.size[0], lanes)
        parts = self.s.parts.reshape(-1) if self.learn else None
        self._launch("bprop", grid, block, x=x, dy=dy, dx=dx, beta=beta, parts=parts)
        if parts is not None:
            sums = 2 * self.p.mean.size
            wanted = {f"d{n}": self.g[n] if of in self.learn else None for of, n in LEARNED.items()}
            blocks = 4 * self.kernels * math.prod(grid) // sums
            self.be.launch(
                self, "gaussian_pool_slopes", grid=(sums, 1, 1), block=(THREADS, 1, 1), x=x,
                parts=parts, blocks=blocks, **wanted,
            )  # fmt: skip

    def _launch(self, phase: str, grid: Shape, block: Shape, **values: Any) -> None:
        """Launch one pass over the images, after one for the tables if a block cannot hold them."""
        values |= {"shared_sets": not self.per_channel, "tables": None}
        if "tables" in self.s:
            sets, values["tables"] = self.p.mean.size // 2, self.s.tables
            size = sets * self._table()
            self.be.launch(self, "gaussian_pool_weights", size, sets=sets, **values)
        self.be.launch(self, f"gaussian_pool_{phase}", grid=grid, block=block, **values)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: GaussianPool(3, stride=1, pad=1), (3, 7, 6)
        yield lambda: GaussianPool((4, 3), stride=(2, 3), pad=(2, 0), kernels=3), (2, 7, 9)
        yield lambda: GaussianPool(5, 2, 2, kernels=2, per_channel=False, normalize="l2"), (2, 6, 5)
        yield lambda: GaussianPool((2, 5), 1, (1, 4), normalize="none", learn={"mean"}), (3, 4, 3)
        yield lambda: GaussianPool(3, pad=2, edge="zero", mean=(0.4, -5.0), sigma=(0.5, 2.0)), (2, 7, 6)
        yield lambda: GaussianPool((3, 1), stride=(4, 2), learn=False), (2, 8, 3)


def spread(kernels: int, window: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Default means and sigmas (J, 2), all different: kernels that start alike may stay alike."""
    size, j = np.array(window, dtype=float), np.arange(kernels)[:, None]
    if kernels == 1:
        mean, sigma = np.zeros((1, 2)), size[None] / 4
    else:
        angle = 2 * np.pi * (j + 0.5) / kernels
        mean = size / 16 * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        sigma = size / 8 * 4 ** (j / (kernels - 1))
    return mean, np.maximum(sigma, SMALLEST)
