"""More of the zoo: layers with broken CUDA kernels, which only the emulator or a GPU can reveal.

`on` is the backend of the check; the rest is as in zoo.py. The kernels are next to this file, named by stem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from zoo import Specimen, Tallest

from minet import Layer, State, update
from minet.core.layer import Array, Shape


class Elementwise(Specimen):
    """An elementwise function, which keeps the shape."""

    on = "cpu"  # whose checks include parity

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (4, 6, 5)


class Squared(Elementwise):
    """``y = x * |x|``, correct on both backends."""

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, x * np.abs(x), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy * 2 * np.abs(x), beta)


class FirstCome(Elementwise):
    """Each map times its number, from 1; the kernel numbers elements in the order that threads run."""

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
    """``y = 1e-9 * x``, which the kernel computes as 0: an absolute tolerance would not notice."""

    breaks = "parity_emu"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, x.dtype.type(1e-9) * x, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, x.dtype.type(1e-9) * dy, beta)


class NotANumberLost(Elementwise):
    """``y = max(x, 0)``, in which the kernel turns a NaN into 0; on other numbers it is right."""

    breaks = "parity_emu"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, np.maximum(x, 0), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, np.where(x > 0, dy, 0), beta)


class ZeroPasses(NotANumberLost):
    """The kernel has another slope at 0 alone."""

    breaks = "parity_emu"


class DenormalLost(NotANumberLost):
    """The kernel takes the smallest numbers for 0."""

    breaks = "parity_emu"


class RowsFromOne(Tallest):
    """Both kernels count rows from 1: y and dx are right, but the rows kept differ from the cpu's."""

    breaks = "parity_emu"
    on = "cpu"


RIGHT = (Squared,)
BROKEN = [cls for cls in list(globals().values()) if getattr(cls, "breaks", "")]
