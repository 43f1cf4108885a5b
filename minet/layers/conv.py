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
from minet.layers import conv_tiles as tiles
from minet.layers.conv_tiles import Tile, up

FEW = 8  # maps in a group
FILLING = 8 * tiles.MULTIPROCESSORS  # blocks of dw that is summed directly
PIXELS = 64  # times N, the most positions in a share of its sums


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
    (``minet/loops/conv/gemm.py``) as on a GPU (``kernels/conv.cu``). To a 1x1 window with stride 1 all pixels
    are one long row. In groups of few maps, and in a depthwise layer, each output is summed tap by tap
    (``minet/loops/conv/conv_depthwise.py``, ``kernels/conv_depthwise.cu``).
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

    def _seen(self, *images: Array) -> tuple[Array, ...]:
        """Images as the window sees them: to a 1x1 window they are one long row, whatever their shape."""
        return tuple(a.reshape(len(a), 1, 1, -1) for a in images) if self.pointwise else images

    def _parts(self, *arrays: Array | None) -> Iterator[tuple[Any, ...]]:
        """For each group, its part of images, weights and biases; None stays None."""
        for g in range(self.groups):
            yield tuple(a if a is None else _part(a, g, self.groups) for a in arrays)

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.conv import conv, conv_depthwise

        (x, y), window, b = self._seen(x, y), self.window[:4], self.p.get("b")
        if self.direct:
            return conv_depthwise.conv(x, self.p.w, b, y, window, self.groups, beta)
        for xs, ws, bs, ys in self._parts(x, self.p.w, b, y):
            conv.conv(xs, ws, bs, ys, window, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.conv import conv, conv_depthwise, conv_dw

        (x, dy), w, window = self._seen(x, dy), self.p.w, self.window[:4]
        dx = dx if dx is None else self._seen(dx)[0]
        if self.direct:
            db = self.g.get("b")
            return conv_depthwise.conv_back(x, w, dy, dx, self.g.w, db, window, self.groups, beta)
        if self.bias:
            self.be.sum_rows(dy.reshape(self.maps, -1), self.g.b, beta=1.0)
        for xs, ws, dys, dxs, dws in self._parts(x, w, dy, dx, self.g.w):
            if dxs is not None:
                conv.conv_dx(ws, dys, dxs, window, beta)
            conv_dw.conv_dw(xs, dys, dws, window, 1.0)

    # -- on a GPU: products that read the images where they lie -----------------------------------------

    def constants(self) -> dict[str, Any]:
        return {"LANES": 4}

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        (C, K), taps, G = (in_shape[0], out_shape[0]), self.window.size[0] * self.window.size[1], self.groups
        if self.direct:
            sizes = {"parts": K * (C // G) * taps * self._pixels(out_shape)[1]}
        else:
            tile, shares = self._weight_tile(K // G, C // G)
            parts = max(shares, 1 if tile.FLAT else taps) * K * (C // G) * (taps if tile.FLAT else 1)
            sizes = {"wt": taps * max(C * up(K // G, 4), K * up(C // G, 4)), "parts": parts}
        return {name: State((size,), per_sample=False, scratch=True) for name, size in sizes.items()}

    def _weight_tile(self, K: int, C: int) -> tuple[Tile, int]:
        """The tile for a group's dw, and how many shares of the positions fill a GPU."""
        taps = self.window.size[0] * self.window.size[1]
        tile = tiles.WEIGHT_TILES[tiles.weight_tile(K, C, taps)].on(self.be)
        blocks = -(-K // tile.BM) * -(-(C * taps if tile.FLAT else C) // tile.BN) * self.groups
        return tile, max(1, tile.RESIDENT * tiles.MULTIPROCESSORS // blocks)

    def _pixels(self, out_shape: Shape) -> tuple[int, int]:
        """Of dw that is summed directly, the pixels of a share, and how many shares there are."""
        _, P, Q = out_shape[:3]
        rows = self.maps * (self.bound_shapes[0][0] // self.groups) * self.window.size[0]
        wanted = max(-(-FILLING // rows), -(-P * Q // PIXELS))
        share = -(-P * Q // wanted)
        return share, -(-P * Q // share)

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        if self.direct:
            return self._directly("fprop", y, x=x, y=y, bias=self.p.get("b"), beta=beta)
        C, R, S = len(x) // self.groups, *self.window.size
        axes = [(s, -p, d, 1) for s, p, d in zip(*self.window[1:], strict=True)]
        x, y = self._seen(x, y)
        self._gather(x, y, axes, (R * S, C * R * S), beta, self.p.get("b"))

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if self.bias:
            self.be.sum_rows(dy.reshape(self.maps, -1), self.g.b, beta=1.0)
        if self.direct:
            return self._directly_back(x, dy, dx, beta)
        x, dy = self._seen(x, dy)
        self._weights(x, dy)
        if dx is not None:
            C, R, S = len(x) // self.groups, *self.window.size
            axes = [(1, p, -d, s) for s, p, d in zip(*self.window[1:], strict=True)]
            self._gather(dy, self._seen(dx)[0], axes, (C * R * S, R * S), beta)

    def _directly(self, phase: str, out: Array, **values: Any) -> None:
        """Launch a kernel with a thread for each element of `out`, which sums it tap by tap."""
        (maps, height, width, N), name = out.shape, f"conv_depthwise_{phase}"
        constants, values = self.window.constants(), values | self._sizes()
        self.be.launch(self, name, width * N, maps * height, constants=constants, **values)

    def _sizes(self) -> dict[str, int]:
        """The maps of a group of x, and of y."""
        (C, *_), (K, *_) = self.bound_shapes
        return {"CG": C // self.groups, "KG": K // self.groups}

    def _directly_back(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            self._directly("dx", dx, dy=dy, dx=dx, beta=beta)
        share, count = self._pixels(dy.shape)
        parts = self.s.parts.reshape(-1, count)
        rows = len(parts) // self.window.size[1]
        grid, block = (count, min(rows, 1 << 15), 1), (256, 1, 1)
        values = {"x": x, "dy": dy, "part": parts, "share": share} | self._sizes()
        constants = self.window.constants()
        self.be.launch(self, "conv_depthwise_dw", grid=grid, block=block, constants=constants, **values)
        self.be.sum_rows(parts, self.g.w.reshape(-1), beta=1.0)

    def _gather(
        self, x: Array, y: Array, axes: list[tuple[int, int, int, int]], steps: tuple[int, int], beta: float,
        bias: Array | None = None,
    ) -> None:  # fmt: skip
        """``y <- beta*y + bias + the product of w and the windows of x``; of dx the same, from dy.

        Parameters
        ----------
        axes : two of (stride, start, step, spread)
            At tap r output a has the input ``(a*stride + start + r*step) / spread``, where that is whole.
        steps : (int, int)
            From one map of x, and of y, to the next in w.
        """
        (C, H, W, N), (M, P, Q, _), G = x.shape, y.shape, self.groups
        C, M = C // G, M // G
        R, S = self.window.size
        tile = tiles.IMAGE_TILES[tiles.image_tile(M, P * Q * N * G)].on(self.be)
        constants = tile._replace(FLAT=int(C < tile.BK))._asdict() | self._grouped()
        names = (f"{name}_{axis}" for axis in "yx" for name in ("stride", "start", "step", "spread"))
        values = dict(zip(names, (*axes[0], *axes[1]), strict=True)) | {
            "C": C, "H": H, "W": W, "M": M, "P": P, "Q": Q, "N": N, "R": R, "S": S, "taps": R * S,
            "groups": G, "step_c": steps[0], "step_m": steps[1], "x": x, "y": y, "bias": bias, "beta": beta,
        }  # fmt: skip
        self.be.launch(self, "conv_pack", R * S * up(M, 4), C * G, constants=constants, **values)
        blocks = -(-M // tile.BM) * -(-(P * Q * N) // tile.BN)
        grid, block = (blocks, G, 1), (tile.threads, 1, 1)
        self.be.launch(self, "conv_gather", grid=grid, block=block, constants=constants, **values)

    def _grouped(self) -> dict[str, int]:
        return {"GROUPED": 1} if self.groups > 1 else {}  # kernels without groups need no registers for them

    def _weights(self, x: Array, dy: Array) -> None:
        """Add to the gradient of w."""
        (C, H, W, N), (K, P, Q, _), G = x.shape, dy.shape, self.groups
        C, all_maps, K = C // G, K, K // G
        taps = self.window.size[0] * self.window.size[1]
        tile, shares = self._weight_tile(K, C)
        constants = tile._asdict() | self._grouped()
        share, count = tiles.shared_out(self.window, (H, W), (P, Q), N, bool(tile.FLAT), shares)
        values = self.window.constants() | {
            "C": C, "H": H, "W": W, "P": P, "Q": Q, "share": share, "part": self.s.parts, "x": x, "dy": dy,
        }  # fmt: skip
        row, lists = (C * taps, 1) if tile.FLAT else (C, taps)
        room = self.s.parts.size // (all_maps * row)  # shares at once
        for z0 in range(0, count, room):
            values |= {"z0": z0, "z1": min(z0 + room, count), "K": K}
            grid, block = (-(-row // tile.BN), -(-K // tile.BM) * G, values["z1"] - z0), (tile.threads, 1, 1)
            self.be.launch(self, "conv_dw", grid=grid, block=block, constants=constants, **values)
            across = 32 if count > 32 * lists else 256  # of many shares a sum is for 8 threads
            grid, block = (-(-all_maps * row // across), lists, 1), (across, 256 // across, 1)
            values |= {"K": all_maps}
            self.be.launch(self, "conv_dw_sum", grid=grid, block=block, constants=constants, **values)

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
