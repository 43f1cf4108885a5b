"""AvgPool: the mean of each window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minet.core.layer import Array, Layer, Shape
from minet.core.window import Window, bands


class AvgPool(Layer):
    """``y = mean of x over the part of the window inside the image``; each pixel of it gets ``dy / pixels``.

    Padding does not count: at an edge the mean has fewer terms.

    Shapes: ``(C, H, W)`` to ``(C, P, Q)``, ``P = (H + 2*pad - window) // stride + 1``, likewise Q; without a
    window to ``(C, 1, 1)``.

    Parameters
    ----------
    window : int or (int, int), optional
        Pixels, vertical and horizontal; None is the whole image.
    stride : int or (int, int), optional
        Pixels from window to window; None is the window.
    pad : int or (int, int)
        Pixels on each side; less than the window.

    Raises
    ------
    LayerError
        If a setting is not whole or out of its range, if the window does not fit the input, or if a stride or
        pad is given without a window.
    """

    def __init__(self, window: Any = None, stride: Any = None, pad: Any = 0) -> None:
        if window is None and (stride is not None or np.any(pad)):
            raise self.error(
                f"a stride or pad needs a window, got stride={stride!r}, pad={pad!r}",
                "AvgPool() averages the whole image; AvgPool(3, stride=2) has windows",
            )
        self.window = None if window is None else Window.pool(self, window, stride, pad)

    def window_on(self, in_shape: Shape) -> Window:
        """The window on an input of this shape, ``(C, H, W)`` or longer."""
        H, W = in_shape[1:3]
        return self.window or Window((H, W), (H, W), (0, 0))

    def out_shape(self, in_shape: Shape) -> Shape:
        return (in_shape[0], *self.window_on(in_shape).out_hw(self, in_shape))

    def constants(self) -> dict[str, Any]:
        window = self.window_on(self.bound_shapes[0])
        rows = window.reach[0]  # of sums that a thread holds for each lane; fewer lanes make more threads
        return window.constants() | {"LANES": 4 if rows <= 3 else 2 if rows <= 8 else 1}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.avg_pool import avg_pool_fprop

        avg_pool_fprop(x, y, *self.window_on(x.shape)[:3], beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.avg_pool import avg_pool_bprop

        if dx is not None:
            avg_pool_bprop(dy, dx, *self.window_on(x.shape)[:3], beta)

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self._march("avg_pool_fprop", y, len(y[0]), x=x, y=y, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            steps = self.window_on(x.shape).beginning(x.shape[1], axis=0)
            self._march("avg_pool_bprop", dx, steps, dy=dy, dx=dx, beta=beta)

    def _march(self, name: str, image: Array, rows: int, **values: Any) -> None:
        """Launch a kernel that marches down each column of the image, in bands of rows."""
        C, _, width, N = image.shape
        threads, window = C * width * N // self.constants()["LANES"], self.window_on(self.bound_shapes[0])
        cut = bands(threads, rows, window.reach[0])
        self.be.launch(self, name, width * N, C * cut, bands=cut, **values)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: AvgPool(), (3, 7, 6)
        yield lambda: AvgPool(2), (3, 7, 6)
        yield lambda: AvgPool(3, stride=2, pad=1), (3, 7, 6)
        yield lambda: AvgPool((4, 2), stride=(1, 3), pad=(2, 1)), (2, 5, 8)
        yield lambda: AvgPool(1, stride=3), (2, 5, 7)
