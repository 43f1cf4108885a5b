"""Conv: convolution as a matrix product of the weights and the windows of x."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minet.core.init import He
from minet.core.layer import Array, Init, Layer, Param, Shape, State
from minet.core.settings import is_whole
from minet.core.window import Window, pair

BLOCK = 1 << 16  # elements of unrolled windows per sample: 32 MiB at N = 128 in float32


class Conv(Layer):
    """Convolution, in the cross-correlation form that all frameworks use.

    ``y[k, p, q] = b[k] + sum over c, r, s of w[k, c, r, s] * x[c, p*stride - pad + r*dilation, ...]``,
    with zeros beyond the edge.

    Parameters
    ----------
    maps : int
        K, the number of output maps.
    window : int or (int, int)
        R and S in pixels, (vertical, horizontal), like all settings that take two.
    stride : int or (int, int)
        Pixels from one window to the next.
    pad : int or (int, int)
        Rows and columns of zeros added on each side.
    dilation : int or (int, int)
        Pixels from one tap of the window to the next.
    bias : bool
        Whether to add b.
    init : float, array_like or callable, optional
        Initial value of w, by default ``He()``. b starts at 0.

    Learns ``w`` (K, C, R, S) and ``b`` (K,), which has no weight decay.

    Shapes: ``(C, H, W)`` to ``(K, P, Q)``, where ``P = (H + 2*pad - dilation*(R - 1) - 1) // stride + 1``.

    Raises
    ------
    LayerError
        If a setting is not a whole number in its range, or the window does not fit the padded input.

    Notes
    -----
    A matrix product of w and the windows of x. On the cpu the product reads the windows in place
    (``minet/loops/conv/gemm.py``); elsewhere im2col unrolls them first (Chellapilla, Puri, Simard, "High
    performance convolutional neural networks for document processing", 2006), in blocks of output rows, so
    memory is bounded whatever the size of the image. A 1x1 window with stride 1 multiplies x itself.
    """

    def __init__(
        self,
        maps: int,
        window: Any,
        stride: Any = 1,
        pad: Any = 0,
        dilation: Any = 1,
        bias: bool = True,
        init: float | np.ndarray | Init | None = None,
    ) -> None:
        if not is_whole(maps) or maps < 1:
            raise self.error(f"maps must be a whole number of at least 1, got {maps!r}", "use maps=64")
        if not isinstance(bias, bool):
            raise self.error(f"bias must be True or False, got {bias!r}")
        self.maps = int(maps)
        self.window = Window(
            pair(self, "window", window), pair(self, "stride", stride), pair(self, "pad", pad, 0),
            pair(self, "dilation", dilation),
        )  # fmt: skip
        self.bias = bias
        self.init = He() if init is None else init
        # The columns of a 1x1 window are x itself: nothing to unroll.
        self.pointwise = self.window[:3] == ((1, 1), (1, 1), (0, 0))

    def out_shape(self, in_shape: Shape) -> Shape:
        return (self.maps, *self.window.out_hw(self, in_shape))

    def params(self, in_shape: Shape) -> dict[str, Param]:
        params = {"w": Param((self.maps, in_shape[0], *self.window.size), self.init)}
        if self.bias:
            params["b"] = Param((self.maps,), decay=False)
        return params

    def _seen(self, *images: Array) -> tuple[Array, ...]:
        """Images as the window sees them: to a 1x1 window they are one long row, whatever their shape."""
        return tuple(a.reshape(len(a), 1, 1, -1) for a in images) if self.pointwise else images

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.conv.conv import conv

        x, y = self._seen(x, y)
        conv(x, self.p.w, self.p.get("b"), y, self.window, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.conv.conv import conv_dw, conv_dx

        if self.bias:
            self.be.sum_rows(dy.reshape(self.maps, -1), self.g.b, beta=1.0)
        x, dy = self._seen(x, dy)
        if dx is not None:
            conv_dx(self.p.w, dy, self._seen(dx)[0], self.window, beta)
        conv_dw(x, dy, self.g.w, self.window, 1.0)

    # -- on a GPU: im2col and one matrix product for each block of output rows ------------------------

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        if self.pointwise:
            return {}
        taps, rows = self._block(in_shape, out_shape)
        return {"col": State((taps * rows * out_shape[2],), scratch=True)}

    def _block(self, in_shape: Shape, out_shape: Shape) -> tuple[int, int]:
        """Rows of the unrolled matrix, and how many output rows to unroll at a time."""
        taps = in_shape[0] * self.window.size[0] * self.window.size[1]
        _, P, Q = out_shape
        rows = min(P, max(1, BLOCK // (taps * Q)))
        blocks = -(-P // rows)
        return taps, -(-P // blocks)  # rows spread evenly

    def _blocks(self, x: Array, y: Array) -> Iterator[tuple[tuple[int, int], slice, Array]]:
        """Yield output rows, their columns in a matrix, and the windows of x there (taps, columns)."""
        taps, step = self._block(x.shape[:3], y.shape[:3])
        _, P, Q, N = y.shape
        for p in range(0, P, step):
            rows = p, min(p + step, P)
            part = slice(rows[0] * Q * N, rows[1] * Q * N)
            if self.pointwise:
                yield rows, part, x.reshape(taps, -1)[:, part]
            else:
                col = self.s.col.reshape(-1)[: taps * (part.stop - part.start)].reshape(taps, -1)
                self.be.im2col(x, col, self.window, rows)
                yield rows, part, col

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        w, y2d = self.p.w.reshape(self.maps, -1), y.reshape(self.maps, -1)
        for _, part, col in self._blocks(x, y):
            self.be.gemm(w, col, y2d[:, part], beta=beta)
            if self.bias:
                self.be.add_bias(y2d[:, part], self.p.b)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        w, dw, dy2d = (a.reshape(self.maps, -1) for a in (self.p.w, self.g.w, dy))
        for rows, part, col in self._blocks(x, dy):
            self.be.gemm(dy2d[:, part], col, dw, beta=1.0, trans="nt")
            if self.bias:
                self.be.sum_rows(dy2d[:, part], self.g.b, beta=1.0)
            if dx is None:
                continue
            if self.pointwise:
                self.be.gemm(w, dy2d[:, part], dx.reshape(len(col), -1)[:, part], beta=beta, trans="tn")
            else:
                self.be.gemm(w, dy2d[:, part], col, trans="tn")
                self.be.col2im(col, dx, self.window, rows, beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: Conv(4, 3, pad=1), (3, 7, 6)
        yield lambda: Conv(5, 1), (3, 4, 5)
        yield lambda: Conv(2, 1, stride=2, bias=False), (3, 7, 6)
        yield lambda: Conv(3, (2, 3), stride=(3, 1), pad=(0, 2)), (2, 7, 6)
        yield lambda: Conv(2, 3, stride=2, pad=2, dilation=(1, 2)), (2, 7, 6)
