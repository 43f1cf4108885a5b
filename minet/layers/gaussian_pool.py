"""GaussianPool: pooling under Gaussian windows with learned means and widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minet.core import drawing
from minet.core.layer import Array, Layer, Param, Shape, State
from minet.core.settings import is_whole
from minet.core.window import Window, is_usual
from minet.layers import gaussian_pool_gpu as gpu
from minet.layers.gaussian_pool_first import SMALLEST, STEEPEST, check_sets, first_values, learned, spread

MOST = 1 << 27  # numbers in the weights of a full Gaussian, for all windows that differ


class GaussianPool(Layer):
    """Weighted sums over windows; the weights are a Gaussian with learned mean and width.

    Kernel j on channel c weighs the pixel at (r, s) from the window's centre by
    ``w ~ exp(-(r-my)^2 / (2 sy^2) - (s-mx)^2 / (2 sx^2))`` and writes ``y[j*C + c]``. A layer of J kernels
    thus equals ``Concat`` of J layers of one, but reads x once. Near the image's border the weights are
    normalised over the part of the window inside, position by position, and the gradients are exact for that.

    Shapes: ``(C, H, W)`` to ``(J*C, P, Q)``; without a window to ``(J*C, 1, 1)``. Learned: ``mean`` and
    ``log_sigma``, each ``(C or 1, J, 2)`` in the order (y, x), and for the full shape ``correlation``,
    ``(C or 1, J)``, all without weight decay.

    Parameters
    ----------
    window, stride : int or (vertical, horizontal)
        Pixels. stride None is the window. window None is the whole image: a readout of each map.
    pad : int, (int, int), ((top, bottom), (left, right)) or "same"
        Pixels on each side; less than the window. On one side alone it makes a causal filter.
    kernels : int
        J, the number of Gaussians on each channel.
    mean, sigma : float, (y, x), array (J, 2) or array (C, J, 2), optional
        Initial values in pixels: means from the window's centre, down and right, and standard deviations of
        at least 0.3. A pair is one (y, x) for all kernels. By default a single kernel is centred, with sigma
        a quarter of the window; several have sigmas from an eighth to half of it, and means a sixteenth of it
        off centre, in different directions.
    learn : bool, or some of {"mean", "sigma", "correlation"}
        What the solver may change. The rest is still saved in checkpoints, with lr 0 and gradient 0.
        False, with given means and sigmas and per_channel=False, is a fixed grid.
    per_channel : bool
        Whether each channel has its own kernels, or all channels share them.
    normalize : {"sum", "l2", "none", "peak"}
        "sum": the weights sum to one. "l2": their squares do, each weight being the square root of that of
        "sum". "none" and "peak": they are the bare exponentials, with a peak of one (LEAF's form).
    edge : {"exact", "zero"}
        "zero" normalises over the whole window and counts pixels outside as 0, as a convolution would.
    dilation : int or (vertical, horizontal)
        Pixels from one tap of the window to the next. mean and sigma then count taps instead of pixels.
    ceil : bool
        Whether a last window may hang over the end, so that P and Q are rounded up (PyTorch's rule).
    shape : {"diagonal", "full"}
        "full" learns a correlation of y and x too: the Gaussian may be tilted, and does not factorise.
    correlation : float, array (J,) or array (C, J), optional
        Initial value, by default 0; between -0.95 and 0.95.

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

    The full shape weighs by ``exp(-(u^2 - 2 rho u v + v^2) / (2 (1 - rho^2)))`` with u and v the distances in
    standard deviations; at a correlation rho of 0 it equals the diagonal one.

    "l2" is the form of Zeiler and Fergus, "Differentiable pooling for hierarchical feature learning", 2012
    (arXiv 1207.0151). They infer means and widths for each image and region; here the layer owns them. LEAF:
    Zeghidour et al., arXiv 2101.08596.
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
        dilation: Any = 1,
        ceil: bool = False,
        shape: str = "diagonal",
        correlation: Any = None,
    ) -> None:
        alone = stride is None and is_usual(pad, 0) and is_usual(dilation, 1) and is_usual(ceil, False)
        if window is None and not alone:
            raise self.error(
                "a window as large as the image has no stride, pad, dilation or ceil",
                "GaussianPool(None, kernels=4) reads whole maps; GaussianPool(5, stride=2) has windows",
            )
        self.window = None if window is None else Window.pool(self, window, stride, pad, dilation, ceil)
        self._kept: tuple[Any, Any] = (None, None)
        if not is_whole(kernels) or kernels < 1:
            raise self.error(f"kernels must be a whole number of at least 1, got {kernels!r}")
        self.kernels, self.per_channel, self.shape = int(kernels), per_channel, shape
        self.normalize, self.edge = normalize, edge
        for name, choices in (
            ("per_channel", (True, False)),
            ("normalize", ("sum", "l2", "none", "peak")),
            ("edge", ("exact", "zero")),
            ("shape", ("diagonal", "full")),
        ):
            if getattr(self, name) not in choices:
                allowed = " or ".join(map(repr, choices))
                raise self.error(f"{name} must be {allowed}, got {getattr(self, name)!r}")
        self.normalize = "none" if normalize == "peak" else normalize
        if correlation is not None and not self.full:
            raise self.error("a correlation needs shape='full'", "or leave it out")
        self.learn = learned(self, learn)
        given = {"mean": mean, "sigma": sigma, "correlation": correlation}
        self.given = {
            name: first_values(self, name, value) for name, value in given.items() if value is not None
        }

    @property
    def full(self) -> bool:
        return self.shape == "full"

    @property
    def parts(self) -> dict[str, str]:
        """The parameters' names, by those of their settings."""
        return {"mean": "mean", "sigma": "log_sigma"} | ({"correlation": "correlation"} if self.full else {})

    def window_on(self, in_shape: Shape) -> Window:
        """The window on an input of this shape, ``(C, H, W)`` or longer."""
        H, W = in_shape[1:3]
        return self.window.on(in_shape) if self.window else Window((H, W), (H, W), (0, 0))

    def firsts(self, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Initial values under a window of that size, by setting."""
        mean, sigma = spread(self.kernels, size)
        return {"mean": mean, "sigma": sigma, "correlation": np.zeros(self.kernels)} | self.given

    def out_shape(self, in_shape: Shape) -> Shape:
        sets = in_shape[0] if self.per_channel else 1
        for name, values in self.given.items():
            check_sets(self, name, values, sets)
        window = self.window_on(in_shape)
        P, Q = window.out_hw(self, in_shape)
        differ = min(P, window.places(0)) * min(Q, window.places(1))
        if self.full and (size := differ * math.prod(window.size) * sets * self.kernels) > MOST:
            raise self.error(
                f"the weights of {differ} windows that differ, at edges, would be {size} numbers",
                "use less padding, a smaller window, fewer kernels or shape='diagonal'",
            )
        return self.kernels * in_shape[0], P, Q

    def params(self, in_shape: Shape) -> dict[str, Param]:
        firsts = self.firsts(self.window_on(in_shape).size)
        inits = firsts | {"sigma": np.log(firsts["sigma"])}
        bounds = {"sigma": (math.log(SMALLEST), None), "correlation": (-STEEPEST, STEEPEST)}
        sets = in_shape[0] if self.per_channel else 1
        return {
            param: Param(
                (sets, self.kernels) + (() if name == "correlation" else (2,)),
                inits[name],
                decay=False,
                lr=name in self.learn,
                bounds=bounds.get(name),
            )
            for name, param in self.parts.items()
        }

    @property
    def mean(self) -> np.ndarray:
        """The means in pixels as learned so far, ``(C or 1, J, 2)``; in an unbound layer, the first ones."""
        return self._now("mean")

    @mean.setter
    def mean(self, value: Any) -> None:
        self._set("mean", value)

    @property
    def sigma(self) -> np.ndarray:
        """The standard deviations in pixels, as `mean`. Both can be set from outside, in a bound layer."""
        return np.exp(self._now("sigma")) if self.bound else self._now("sigma")

    @sigma.setter
    def sigma(self, value: Any) -> None:
        self._set("sigma", value)

    @property
    def correlation(self) -> np.ndarray:
        """The correlations of y and x, ``(C or 1, J)``."""
        return self._now("correlation") if self.full else np.zeros(self.kernels)

    def _now(self, name: str) -> np.ndarray:
        if self.bound:
            return np.array(self.be.get(self.p[self.parts[name]]))
        if self.window is None and name not in self.given:
            raise self.error(f"its {name} depends on the size of the image", "put it into a Net first")
        return self.firsts(self.window.size if self.window else (1, 1))[name]

    def _set(self, name: str, value: Any) -> None:
        if not self.bound:
            raise self.error(f"its {name} can be set once it is in a Net", f"GaussianPool(..., {name}=...)")
        values = first_values(self, name, value)
        if name == "sigma":
            values = np.log(values)
        param = self.p[self.parts[name]]
        check_sets(self, name, values, len(param))
        self.be.copy(np.broadcast_to(values, param.shape).astype(param.dtype), param)

    def _repr_svg_(self) -> str | None:
        if self.window is None and not self.bound:
            return None  # as large as what image?
        means, sigmas = (values.reshape(-1, self.kernels, 2) for values in (self.mean, self.sigma))
        size = self.window_on(self.bound_shapes[0] if self.bound else (1, 1, 1)).size
        tilts = self.correlation.reshape(-1, self.kernels) if self.full else None
        return drawing.gaussians(means, sigmas, size, correlations=tilts)  # in a notebook

    # -- on the cpu ------------------------------------------------------------------------------------

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops import gaussian_pool as loops
        from minet.loops import gaussian_pool_full as full_loops

        if self.full:
            full_loops.gaussian_pool_full_fprop(x, y, *self._tables_on(x).fprop, beta)
        else:
            loops.gaussian_pool_fprop(x, y, *self._tables_on(x).fprop, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is None and not self.learn:
            return
        slopes = self._tables_on(x).bprop(x, dy, dx, bool(self.learn), beta)
        for name in self.learn:
            grad = self.g[self.parts[name]]
            slope = slopes[name].reshape(len(x), *grad.shape[1:])
            grad += slope if self.per_channel else slope.sum(0)

    def _tables_on(self, x: Array) -> Any:
        """What the loops need to know of windows and weights; made again when parameters change."""
        from minet.loops.gaussian_pool_readout import tables_of
        from minet.loops.gaussian_pool_weights import axis_of

        params = [self.p[param] for param in self.parts.values()]
        key = x.shape[:3], x.dtype, *(p.tobytes() for p in params)
        if key != self._kept[0]:
            window, out = self.window_on(x.shape), self.bound_shapes[1][1:]
            axes = [axis_of(*sizes) for sizes in zip(x.shape[1:3], out, *window, strict=True)]
            values = [np.broadcast_to(p, (len(x), *p.shape[1:])).astype(np.float64) for p in params]
            made = tables_of(self.full, not self.window, axes, values, self.normalize, self.edge, x.dtype)
            self._kept = key, made
        return self._kept[1]

    # -- on a GPU --------------------------------------------------------------------------------------

    def constants(self) -> dict[str, Any]:
        return gpu.constants(self)

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return gpu.state(self, in_shape, out_shape)

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        gpu.plan(self).fprop(x, y, beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None or self.learn:
            gpu.plan(self).bprop(x, dy, dx, beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: GaussianPool(3, stride=1, pad=1), (3, 7, 6)
        yield lambda: GaussianPool((4, 3), stride=(2, 3), pad=(2, 0), kernels=3), (2, 7, 9)
        yield lambda: GaussianPool(5, 2, 2, kernels=2, per_channel=False, normalize="l2"), (2, 6, 5)
        yield lambda: GaussianPool((2, 5), 1, (1, 4), normalize="none", learn={"mean"}), (3, 4, 3)
        yield lambda: GaussianPool(3, pad=2, edge="zero", mean=(0.4, -5.0), sigma=(0.5, 2.0)), (2, 7, 6)
        yield lambda: GaussianPool((3, 1), stride=(4, 2), learn=False), (2, 8, 3)
        yield lambda: GaussianPool(3, stride=2, pad=((0, 1), (2, 0)), ceil=True, kernels=2), (2, 6, 6)
        yield lambda: GaussianPool((2, 3), stride=(2, 1), pad=(1, 2), dilation=(3, 2), kernels=2), (2, 7, 6)
        yield lambda: GaussianPool((1, 41), stride=(1, 16), pad=((0, 0), (40, 0)), kernels=2), (2, 1, 60)
        yield lambda: GaussianPool((18, 2), stride=(3, 1), pad=(9, 1), normalize="peak"), (1, 20, 3)
        yield lambda: GaussianPool(None, kernels=4), (2, 5, 6)
        yield lambda: GaussianPool(3, stride=1, pad=1, kernels=2, shape="full", correlation=0.5), (2, 5, 4)
        yield (
            lambda: GaussianPool((3, 2), 2, (2, 1), shape="full", dilation=(1, 2), normalize="l2"),
            (2, 6, 5),
        )
        yield (
            lambda: GaussianPool(3, 2, 1, shape="full", edge="zero", per_channel=False, ceil=True),
            (3, 6, 4),
        )
