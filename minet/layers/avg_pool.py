"""AvgPool: the mean of each window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minet.core.layer import Array, Layer, Shape
from minet.core.window import Pair, Window, bands, is_usual, pair
from minet.layers import avg_pool_direct as direct


class AvgPool(Layer):
    """``y = mean of x over the part of the window inside the image``; each pixel of it gets ``dy / pixels``.

    Padding does not count, unless `count_pad` says so: at an edge the mean has fewer terms. What `ceil` adds
    behind the image never counts.

    Shapes: ``(C, H, W)`` to ``(C, P, Q)``, ``P = (H + 2*pad - dilation*(window - 1) - 1) // stride + 1``, Q
    likewise; to ``(C, *out)``; without either to ``(C, 1, 1)``.

    Parameters
    ----------
    window : int or (int, int), optional
        Pixels, vertical and horizontal; None is the whole image.
    stride : int or (int, int), optional
        Pixels from window to window; None is the window.
    pad : int, (int, int), ((top, bottom), (left, right)) or "same"
        Pixels on each side; less than the window.
    dilation : int or (int, int)
        Pixels from one tap of the window to the next.
    ceil : bool
        Whether a last window may hang over the end, so that P and Q are rounded up (PyTorch's rule: not if it
        would begin behind the image).
    count_pad : bool
        Whether the mean divides by the padding too, as if it were pixels of 0.
    out : int or (int, int), optional
        P and Q, instead of a window: windows are as nearly alike as possible, and overlap where they must.
        Window p is ``p*H // P`` up to, not including, ``(p+1)*H / P`` rounded up, as in PyTorch.

    Raises
    ------
    LayerError
        If a setting is not whole or out of its range, if the window does not fit the input, if other settings
        are given without a window, or if `out` comes with any.
    """

    def __init__(
        self,
        window: Any = None,
        stride: Any = None,
        pad: Any = 0,
        dilation: Any = 1,
        ceil: bool = False,
        count_pad: bool = False,
        out: Any = None,
    ) -> None:
        if not isinstance(count_pad, bool):
            raise self.error(f"count_pad must be True or False, got {count_pad!r}")
        others = {"stride": stride, "pad": pad, "dilation": dilation, "ceil": ceil, "count_pad": count_pad}
        usual = {"stride": None, "pad": 0, "dilation": 1, "ceil": False, "count_pad": False}
        given = ", ".join(
            f"{name}={value!r}" for name, value in others.items() if not is_usual(value, usual[name])
        )
        if out is not None and (given or window is not None):
            raise self.error(
                f"out={out!r} makes its own windows, got {given or f'window={window!r}'}",
                "AvgPool(out=7) has 7x7 outputs; AvgPool(3, stride=2) has windows",
            )
        if window is None and given:
            raise self.error(
                f"a stride or pad needs a window, got {given}",
                "AvgPool() averages the whole image; AvgPool(3, stride=2) has windows",
            )
        self.out = None if out is None else pair(self, "out", out)
        self.window = None if window is None else Window.pool(self, window, stride, pad, dilation, ceil)
        self.count_pad = count_pad

    def window_on(self, in_shape: Shape) -> Window:
        """The window on an input ``(C, H, W)`` or longer; with `out`, one as large as any of them."""
        H, W = in_shape[1:3]
        if self.out:
            P, Q = self.out
            return Window(
                (-(-H // P) + (H % P > 0), -(-W // Q) + (W % Q > 0)), (-(-H // P), -(-W // Q)), (0, 0)
            )
        return self.window.on(in_shape) if self.window else Window((H, W), (H, W), (0, 0))

    def out_shape(self, in_shape: Shape) -> Shape:
        return (in_shape[0], *(self.out or self.window_on(in_shape).out_hw(self, in_shape)))

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.avg_pool import avg_pool_fprop

        avg_pool_fprop(x, y, *self._spans(x.shape, y.shape), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.avg_pool import avg_pool_bprop

        if dx is not None:
            avg_pool_bprop(dy, dx, *self._spans(x.shape, dy.shape), beta)

    def _spans(self, in_shape: Shape, out_shape: Shape) -> list[Any]:
        """The windows along both axes."""
        from minet.loops.window import adaptive, spans

        sizes = zip(in_shape[1:3], out_shape[1:3], strict=True)
        if self.out:
            return [adaptive(*size) for size in sizes]
        geometry, counted = self.window_on(in_shape), self._counted()
        return [spans(*size, *numbers) for size, *numbers in zip(sizes, *geometry, counted, strict=True)]

    def _counted(self) -> Pair:
        """How many pixels behind the image count in the mean; -1 if none of the padding does."""
        return self.window.behind if self.window and self.count_pad else (-1, -1)

    # -- on a GPU: a march down the columns, or one window at a time if windows are spread or differ -----

    def constants(self) -> dict[str, Any]:
        window, (AY, AX) = self.window_on(self.bound_shapes[0]), self._counted()
        rows = window.reach[0]  # of sums that a thread holds for each lane; fewer lanes make more threads
        lanes = 4 if rows <= 3 or direct.needed(self) else 2 if rows <= 8 else 1
        more = {"LANES": lanes, "COUNT_PAD": int(self.count_pad), "AY": AY, "AX": AX}
        return window.constants() | more | {"ADAPTIVE": int(self.out is not None)}

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        if direct.needed(self):
            direct.launch(self, "fprop", y, x=x, y=y, beta=beta)
        else:
            self._march("avg_pool_fprop", y, len(y[0]), x=x, y=y, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is None:
            return
        if direct.needed(self):
            direct.launch(self, "bprop", dx, dy=dy, dx=dx, beta=beta)
        else:
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
        yield lambda: AvgPool(3, stride=2, pad=((0, 1), (2, 0)), ceil=True, count_pad=True), (2, 6, 6)
        yield lambda: AvgPool(3, stride=(2, 1), pad=(1, 2), dilation=(3, 2), ceil=True), (2, 9, 7)
        yield lambda: AvgPool(2, stride=1, pad=1, dilation=2, count_pad=True), (2, 4, 5)
        yield lambda: AvgPool(out=(3, 2)), (2, 7, 6)
        yield lambda: AvgPool(out=(5, 4)), (1, 3, 4)
