"""Conv: convolution as a matrix product of the weights and the windows of x."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minet.core.init import He
from minet.core.layer import Array, Init, Layer, Param, Shape, State
from minet.core.settings import is_whole
from minet.core.window import Window

FEW = 8  # maps in a group


class Conv(Layer):
    """Convolution, in the cross-correlation form that all frameworks use.

    ``y[k, p, q] = b[k] + sum over c, r, s of w[k, c, r, s] * x[c, p*stride - pad + r*dilation, ...]``,
    with zeros beyond the edge. With groups, c are the maps of x that belong to the group of k.

    Learns ``w`` (K, C/groups, R, S) and ``b`` (K,), which has no weight decay.

    Shapes: ``(C, H, W)`` to ``(K, P, Q)``, ``P = (H + top + bottom - dilation*(R - 1) - 1) // stride + 1``,
    likewise Q.

    Parameters
    ----------
    maps : int
        K, the number of output maps.
    window : int or (int, int)
        R and S in pixels, (vertical, horizontal), like all settings that take two.
    stride : int or (int, int)
        Pixels from one window to the next.
    pad : int, (int, int), ((top, bottom), (left, right)) or "same"
        Rows and columns of zeros added on each side. "same" gives as many outputs as inputs.
    dilation : int or (int, int)
        Pixels from one tap of the window to the next.
    groups : int
        Into how many groups of neighbours the maps of x and of y are divided; a map of y sees its group's.
        With groups=C the layer is depthwise: each map of x has maps/C filters of its own.
    bias : bool
        Whether to add b.
    init : float, array_like or callable, optional
        Initial value of w, by default ``He()``. b starts at 0.

    Raises
    ------
    LayerError
        If a setting is not a whole number in its range, the window does not fit the padded input, or groups
        does not divide C and maps.

    Notes
    -----
    A matrix product of w and the windows of x, which reads the windows where they lie, on the cpu
    (``minet/loops/conv/gemm.py``) as on a GPU (``conv_gpu.py``, ``kernels/conv.cu``). To a 1x1 window with
    stride 1 all pixels are one long row. In groups of few maps, and in a depthwise layer, each output is
    summed tap by tap (``minet/loops/conv/conv_depthwise.py``, ``kernels/conv_depthwise.cu``).
    """

    def __init__(
        self,
        maps: int,
        window: Any,
        stride: Any = 1,
        pad: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        init: float | np.ndarray | Init | None = None,
    ) -> None:
        if not is_whole(maps) or maps < 1:
            raise self.error(f"maps must be a whole number of at least 1, got {maps!r}", "use maps=64")
        if not is_whole(groups) or groups < 1:
            hint = "use groups=1, or groups=C for a depthwise convolution"
            raise self.error(f"groups must be a whole number of at least 1, got {groups!r}", hint)
        if not isinstance(bias, bool):
            raise self.error(f"bias must be True or False, got {bias!r}")
        self.maps = int(maps)
        self.window = Window.of(self, window, stride, pad, dilation)
        self.groups = int(groups)
        self.bias = bias
        self.init = He() if init is None else init
        self.pointwise = (*self.window[:3], self.window.behind) == ((1, 1), (1, 1), (0, 0), (0, 0))

    def out_shape(self, in_shape: Shape) -> Shape:
        if in_shape[0] % self.groups or self.maps % self.groups:
            raise self.error(
                f"groups={self.groups} must divide the input's maps, C={in_shape[0]}, and maps={self.maps}",
                f"use groups={math.gcd(in_shape[0], self.maps)}, or another number that divides both",
            )
        return (self.maps, *self.window.out_hw(self, in_shape, empty=True))

    @property
    def direct(self) -> bool:
        """Whether groups have so few maps that sums tap by tap are faster than products of matrices."""
        C, K = (shape[0] // self.groups for shape in self.bound_shapes)
        return self.groups > 1 and (C == 1 or max(C, K) <= FEW)

    def params(self, in_shape: Shape) -> dict[str, Param]:
        params = {"w": Param((self.maps, in_shape[0] // self.groups, *self.window.size), self.init)}
        if self.bias:
            params["b"] = Param((self.maps,), decay=False)
        return params

    def seen(self, *images: Array) -> tuple[Array, ...]:
        """Images as the window sees them: to a 1x1 window they are one long row, whatever their shape."""
        return tuple(a.reshape(len(a), 1, 1, -1) for a in images) if self.pointwise else images

    def _parts(self, *arrays: Array | None) -> Iterator[tuple[Any, ...]]:
        """For each group, its part of images, weights and biases; None stays None."""
        for g in range(self.groups):
            yield tuple(a if a is None else _part(a, g, self.groups) for a in arrays)

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.conv import conv, conv_depthwise

        (x, y), window, b = self.seen(x, y), self.window[:4], self.p.get("b")
        if self.direct:
            return conv_depthwise.conv(x, self.p.w, b, y, window, self.groups, beta)
        for xs, ws, bs, ys in self._parts(x, self.p.w, b, y):
            conv.conv(xs, ws, bs, ys, window, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.conv import conv, conv_depthwise, conv_dw

        (x, dy), w, window = self.seen(x, dy), self.p.w, self.window[:4]
        dx = dx if dx is None else self.seen(dx)[0]
        if self.direct:
            db = self.g.get("b")
            return conv_depthwise.conv_back(x, w, dy, dx, self.g.w, db, window, self.groups, beta)
        if self.bias:
            self.be.sum_rows(dy.reshape(self.maps, -1), self.g.b, beta=1.0)
        for xs, ws, dys, dxs, dws in self._parts(x, w, dy, dx, self.g.w):
            if dxs is not None:
                conv.conv_dx(ws, dys, dxs, window, beta)
            conv_dw.conv_dw(xs, dys, dws, window, 1.0)

    # -- on a GPU -------------------------------------------------------------------------------------

    def _on_gpu(self) -> Any:
        from minet.layers import conv_gpu

        return (conv_gpu.Direct if self.direct else conv_gpu.Products)(self)

    def constants(self) -> dict[str, Any]:
        return {"LANES": 4}

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return self._on_gpu().state(in_shape, out_shape)

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self._on_gpu().fprop(x, y, beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        self._on_gpu().bprop(x, dy, dx, beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: Conv(4, 3, pad=1), (3, 7, 6)
        yield lambda: Conv(5, 1), (3, 4, 5)
        yield lambda: Conv(2, 1, stride=2, bias=False), (3, 7, 6)
        yield lambda: Conv(3, (2, 3), stride=(3, 1), pad=(0, 2)), (2, 7, 6)
        yield lambda: Conv(2, 3, stride=2, pad=2, dilation=(1, 2)), (2, 7, 6)
        yield lambda: Conv(2, (2, 3), pad="same"), (2, 5, 6)
        yield lambda: Conv(3, 3, stride=(2, 1), pad=((0, 3), (4, 1))), (2, 5, 4)
        yield lambda: Conv(6, 3, pad=1, groups=2), (4, 5, 6)
        yield lambda: Conv(18, (2, 1), pad=((1, 0), (0, 0)), groups=2), (6, 4, 3)
        yield lambda: Conv(4, 3, pad=1, groups=2), (2, 5, 6)
        yield lambda: Conv(3, (2, 3), (2, 1), ((0, 1), (2, 1)), (1, 2), groups=3, bias=False), (3, 6, 5)


def _part(array: Array, g: int, groups: int) -> Array:
    """Group g of an array whose first axis is divided into groups."""
    size = len(array) // groups
    return array[g * size : (g + 1) * size]
