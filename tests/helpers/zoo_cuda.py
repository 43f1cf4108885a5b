"""More of the zoo: layers whose CUDA kernels are broken, as only the emulator or a GPU can tell.

`on` says on which backend; the rest is as in zoo.py. Their kernels lie beside this file, by their stems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from zoo import Specimen, Tallest

from minet import Layer, State, update
from minet.core.layer import Array, Shape


class Elementwise(Specimen):
    """Something for each element, that keeps the shape."""

    on = "cpu"  # where parity is checked on the side

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (4, 6, 5)


class Squared(Elementwise):
    """``y = x * |x|``, right on both sides."""

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, x * np.abs(x), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy * 2 * np.abs(x), beta)


class FirstCome(Elementwise):
    """Each map times its number from 1, which the kernel gives to elements as they come."""

    breaks = "thread_order"
    on = "emu"

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"turn": State((1,), "uint32", per_sample=False)}

    def times(self, values: Array) -> Array:
        return values * np.arange(1, len(values) + 1, dtype=values.dtype)[:, None, None, None]

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, self.times(x), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, self.times(dy), beta)


class SignLost(Squared):
    """The kernel computes ``x * x``."""

    breaks = "parity_emu"


class TooSmallToMatter(Elementwise):
    """``y = 1e-9 * x``, which the kernel takes for 0: an absolute tolerance would agree."""

    breaks = "parity_emu"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, x.dtype.type(1e-9) * x, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, x.dtype.type(1e-9) * dy, beta)


class RowsFromOne(Tallest):
    """Both kernels count rows from 1: y and dx are right, what is kept is not what the cpu keeps."""

    breaks = "parity_emu"
    on = "cpu"


RIGHT = (Squared,)
BROKEN = [cls for cls in list(globals().values()) if getattr(cls, "breaks", "")]
