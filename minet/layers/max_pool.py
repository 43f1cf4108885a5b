"""MaxPool: the largest value of each window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minet.core.layer import Array, Layer, Shape, State
from minet.core.window import Window


class MaxPool(Layer):
    """``y = max of x over the window``; the delta goes to where the maximum was.

    Of equal values the first, row by row, is the maximum. A NaN in the window is the output, as in PyTorch.
    Padding is never the maximum.

    Shapes: ``(C, H, W)`` to ``(C, P, Q)``, ``P = (H + 2*pad - dilation*(window - 1) - 1) // stride + 1``, Q
    likewise. State ``argmax``, ``(C, P, Q, N)``: the maximum's position r*S + s in its window, uint8 if
    R*S + 1 fits.

    Parameters
    ----------
    window : int or (int, int)
        Pixels, vertical and horizontal.
    stride : int or (int, int), optional
        Pixels from window to window; None is the window.
    pad : int, (int, int), ((top, bottom), (left, right)) or "same"
        Pixels on each side; less than the window.
    dilation : int or (int, int)
        Pixels from one tap of the window to the next.
    ceil : bool
        Whether a last window may hang over the end, so that P and Q are rounded up (PyTorch's rule: not if it
        would begin behind the image).

    Raises
    ------
    LayerError
        If a setting is not whole or out of its range, or the window does not fit the input.
    """

    def __init__(
        self, window: Any, stride: Any = None, pad: Any = 0, dilation: Any = 1, ceil: bool = False
    ) -> None:
        self.window = Window.pool(self, window, stride, pad, dilation, ceil)

    def out_shape(self, in_shape: Shape) -> Shape:
        return (in_shape[0], *self.window.out_hw(self, in_shape))

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"argmax": State(out_shape, self.window.tap_dtype)}

    def constants(self) -> dict[str, Any]:
        return self.window.constants() | {"LANES": self.window.lanes}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.max_pool import max_pool_fprop

        max_pool_fprop(x, y, self.s.argmax, *self.window, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.max_pool import max_pool_bprop

        if dx is not None:
            max_pool_bprop(dy, dx, self.s.argmax, *self.window, beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            across, rows = self.window.beginning(x.shape[2]), x.shape[0] * x.shape[1]
            size = across * x.shape[3]
            self.be.launch(self, "max_pool_bprop", size, rows, across=across, dy=dy, dx=dx, beta=beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: MaxPool(2), (3, 7, 6)
        yield lambda: MaxPool(3, stride=2, pad=1), (3, 7, 6)
        yield lambda: MaxPool((4, 2), stride=(1, 3), pad=(2, 1)), (2, 5, 8)
        yield lambda: MaxPool(1, stride=3), (2, 5, 7)
        yield lambda: MaxPool((17, 18), stride=1, pad=(1, 0)), (1, 16, 19)
        yield (
            lambda: MaxPool((3, 2), stride=(1, 3), pad=((1, 2), (0, 1)), dilation=(2, 3), ceil=True),
            (2, 7, 9),
        )
        yield lambda: MaxPool(3, stride=2, ceil=True), (2, 6, 8)
        yield lambda: MaxPool(2, stride=1, pad="same", dilation=3), (1, 5, 6)
