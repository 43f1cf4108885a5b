"""ReLU: the rectifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minet.core.layer import Array, Layer, Shape


class ReLU(Layer):
    """``f(x) = max(x, 0)``; ``dx = dy`` where ``x > 0``, else 0, at ``x = 0`` too.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``. A NaN stays a NaN.

    References
    ----------
    Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
    """

    in_place = True

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.relu import relu_fprop

        relu_fprop(x.reshape(-1), y.reshape(-1), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.relu import relu_bprop

        if dx is not None:
            relu_bprop(x.reshape(-1), None if dx is dy else dy.reshape(-1), dx.reshape(-1), beta)

    def constants(self) -> dict[str, Any]:
        return {"LANES": 4}

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: ReLU(), (3, 7, 6)
        yield lambda: ReLU(), (5, 1, 1)
