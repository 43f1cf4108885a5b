"""Identity: x unchanged, for a branch that passes its input through."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from minet.core.layer import Array, Layer, Shape


class Identity(Layer):
    """``f(x) = x``; dx = dy. Useful as a branch: Concat(Identity(), ...) keeps the raw input.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``. Made of backend calls only.
    """

    in_place = True

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def fprop(self, x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
        self.be.axpby(1.0, x, beta, y)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float = 0.0) -> None:
        if dx is not None:
            self.be.axpby(1.0, dy, beta, dx)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: Identity(), (2, 3, 4)
