"""Linear: every output is a weighted sum of all inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from minet.core.init import He
from minet.core.layer import Array, Init, Layer, Param, Shape
from minet.core.settings import is_whole


class Linear(Layer):
    """``y = w x + b`` for each sample, with x flattened in the order (C, H, W).

    Learns ``w`` (units, C*H*W) and ``b`` (units,), which has no weight decay.

    Shapes: ``(C, H, W)`` to ``(units, 1, 1)``. Made of backend calls only; flattening copies nothing.

    Parameters
    ----------
    units : int
        The number of outputs.
    bias : bool
        Whether to add b.
    init : float, array_like or callable, optional
        Initial value of w, by default ``He()``. b starts at 0.

    Raises
    ------
    LayerError
        If `units` is not a whole number of at least 1.
    """

    def __init__(self, units: int, bias: bool = True, init: float | np.ndarray | Init | None = None) -> None:
        if not is_whole(units) or units < 1:
            raise self.error(f"units must be a whole number of at least 1, got {units!r}", "use units=10")
        if not isinstance(bias, bool):
            raise self.error(f"bias must be True or False, got {bias!r}")
        self.units, self.bias = int(units), bias
        self.init = He() if init is None else init

    def out_shape(self, in_shape: Shape) -> Shape:
        return (self.units, 1, 1)

    def params(self, in_shape: Shape) -> dict[str, Param]:
        params = {"w": Param((self.units, in_shape[0] * in_shape[1] * in_shape[2]), self.init)}
        if self.bias:
            params["b"] = Param((self.units,), decay=False)
        return params

    def fprop(self, x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
        x, y = (a.reshape(-1, a.shape[-1]) for a in (x, y))
        self.be.gemm(self.p.w, x, y, beta=beta)
        if self.bias:
            self.be.add_bias(y, self.p.b)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float = 0.0) -> None:
        x, dy = (a.reshape(-1, a.shape[-1]) for a in (x, dy))
        self.be.gemm(dy, x, self.g.w, beta=1.0, trans="nt")
        if self.bias:
            self.be.sum_rows(dy, self.g.b, beta=1.0)
        if dx is not None:
            self.be.gemm(self.p.w, dy, dx.reshape(x.shape), beta=beta, trans="tn")

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: Linear(5), (3, 2, 4)
        yield lambda: Linear(1, bias=False), (2, 1, 3)
        yield lambda: Linear(4, init=0.5), (6, 1, 1)
