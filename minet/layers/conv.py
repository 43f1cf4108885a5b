"""Conv: convolution as a matrix product of the weights and the windows of x."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minet.core.init import He
from minet.core.layer import Array, Init, Layer, Param, Shape, State
from minet.core.settings import is_whole
from minet.core.window import Window, pair

MULTIPROCESSORS = 132  # of an H100; the same on any card, as the order of sums depends on it
LEAST, MOST, STEP = 64, 2048, 16  # positions in a share of dw; longer sums would lose float32's digits


class Tile(NamedTuple):
    """What a block of a product on a GPU computes; `kernels/conv_tile.cuh` explains the numbers."""

    BM: int
    BN: int
    TM: int = 8
    TN: int = 8
    BK: int = 16
    STAGES: int = 2
    GROUPS: int = 1
    RESIDENT: int = 2
    FLAT: int = 0
    TF32: int = 0

    @property
    def threads(self) -> int:
        return 32 * self.GROUPS * (self.BM // (4 * self.TM)) * (self.BN // (8 * self.TN))

    def on(self, be: Any) -> Tile:
        """The tile there; with ``tf32=True`` on tensor cores, which take 8 terms at once."""
        if not be.tf32:
            return self
        TM = 16 if (self.BM, self.BN) == (128, 128) else self.TM  # larger parts for a warp, fewer reads
        return self._replace(TM=TM, TF32=1, GROUPS=min(self.GROUPS, self.BK // 8))


IMAGE_TILES = {  # of y and dx
    "large": Tile(128, 128),  # the most products for each number that is read
    "half": Tile(64, 128, STAGES=3, RESIDENT=4),  # no more than 64 maps
    "deep": Tile(32, 64, STAGES=3, GROUPS=4, RESIDENT=4),  # few blocks: their warps share the terms
    "thin": Tile(16, 64, TM=4, STAGES=3, GROUPS=4, RESIDENT=6),  # few maps, as dx of colours has
}
WEIGHT_TILES = {  # of dw, by maps K and C; the columns of a flat tile are all (c, r, s), not the c of one tap
    "96x96": Tile(96, 96, TM=12, TN=6),
    "64x128": Tile(64, 128, RESIDENT=3),  # 128x128 was slower, or had too few registers
    "128x64": Tile(128, 64, RESIDENT=3),
    "64x64": Tile(64, 64, RESIDENT=4),
    "flat": Tile(64, 80, TN=10, GROUPS=2, FLAT=1),  # 5x5 of three colours
    "flat few": Tile(64, 40, TN=5, GROUPS=2, FLAT=1),  # 3x3 of three
}


def image_tile(maps: int, positions: int) -> str:
    """The tile for y or dx of so many maps and positions, which are height x width x N."""
    if maps <= 16:
        return "thin"
    name = "large" if maps > 64 else "half"
    blocks = -(-maps // IMAGE_TILES[name].BM) * -(-positions // IMAGE_TILES[name].BN)
    return name if blocks >= MULTIPROCESSORS else "deep"


def weight_tile(K: int, C: int, taps: int) -> str:
    """The tile for dw."""
    if C <= 32:
        return "flat" if C * taps > 40 else "flat few"
    if 64 < K <= 96 and 64 < C <= 96:
        return "96x96"
    return "64x128" if C > 64 else "128x64" if K > 64 else "64x64"


@cache
def shared_out(
    window: Window, size: tuple[int, int], outputs: tuple[int, int], N: int, flat: bool, wanted: int
) -> tuple[int, int]:
    """The positions in each share of dw, and how many shares that makes.

    That is `wanted` or less, unless there are more taps, or shares would be longer than MOST.
    """

    def met(axis: int) -> list[int]:
        """For each tap along an axis, how many outputs have it in the image."""
        taps, stride, pad, step = (numbers[axis] for numbers in window)
        places = range(-pad, outputs[axis] * stride - pad, stride)
        return [sum(0 <= place + r * step < size[axis] for place in places) for r in range(taps)]

    lengths = [down * across * N for down in met(0) for across in met(1)]
    if flat:
        lengths = [outputs[0] * outputs[1] * N]
    share, most = _up(max(LEAST, min(MOST, -(-sum(lengths) // wanted))), STEP), max(wanted, len(lengths))
    while (count := sum(-(-length // share) for length in lengths)) > most and share < MOST:
        share += STEP
    return share, count


def _up(value: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-value // step) * step


class Conv(Layer):
    """Convolution, in the cross-correlation form that all frameworks use.

    ``y[k, p, q] = b[k] + sum over c, r, s of w[k, c, r, s] * x[c, p*stride - pad + r*dilation, ...]``,
    with zeros beyond the edge.

    Learns ``w`` (K, C, R, S) and ``b`` (K,), which has no weight decay.

    Shapes: ``(C, H, W)`` to ``(K, P, Q)``, where ``P = (H + 2*pad - dilation*(R - 1) - 1) // stride + 1``.

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

    Raises
    ------
    LayerError
        If a setting is not a whole number in its range, or the window does not fit the padded input.

    Notes
    -----
    A matrix product of w and the windows of x, which reads the windows where they lie, on the cpu
    (``minet/loops/conv/gemm.py``) as on a GPU (``kernels/conv.cu``). To a 1x1 window with stride 1 all pixels
    are one long row.
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
        from minet.loops.conv.conv import conv_dx
        from minet.loops.conv.conv_dw import conv_dw

        if self.bias:
            self.be.sum_rows(dy.reshape(self.maps, -1), self.g.b, beta=1.0)
        x, dy = self._seen(x, dy)
        if dx is not None:
            conv_dx(self.p.w, dy, self._seen(dx)[0], self.window, beta)
        conv_dw(x, dy, self.g.w, self.window, 1.0)

    # -- on a GPU: products that read the images where they lie -----------------------------------------

    def constants(self) -> dict[str, Any]:
        return {"LANES": 4}

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        (C, K), taps = (in_shape[0], out_shape[0]), self.window.size[0] * self.window.size[1]
        packed = taps * max(C * _up(K, 4), K * _up(C, 4))
        tile, shares = self._weight_tile(K, C)
        parts = max(shares, 1 if tile.FLAT else taps) * K * C * (taps if tile.FLAT else 1)
        sizes = {"wt": packed, "parts": parts}
        return {name: State((size,), per_sample=False, scratch=True) for name, size in sizes.items()}

    def _weight_tile(self, K: int, C: int) -> tuple[Tile, int]:
        """The tile for dw, and how many shares of the positions fill a GPU."""
        taps = self.window.size[0] * self.window.size[1]
        tile = WEIGHT_TILES[weight_tile(K, C, taps)].on(self.be)
        blocks = -(-K // tile.BM) * -(-(C * taps if tile.FLAT else C) // tile.BN)
        return tile, max(1, tile.RESIDENT * MULTIPROCESSORS // blocks)

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        (C, *_), R, S = x.shape, *self.window.size
        axes = [(s, -p, d, 1) for s, p, d in zip(*self.window[1:], strict=True)]
        x, y = self._seen(x, y)
        self._gather(x, y, axes, (R * S, C * R * S), beta, self.p.get("b"))

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if self.bias:
            self.be.sum_rows(dy.reshape(self.maps, -1), self.g.b, beta=1.0)
        x, dy = self._seen(x, dy)
        self._weights(x, dy)
        if dx is not None:
            (C, *_), R, S = x.shape, *self.window.size
            axes = [(1, p, -d, s) for s, p, d in zip(*self.window[1:], strict=True)]
            self._gather(dy, self._seen(dx)[0], axes, (C * R * S, R * S), beta)

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
        (C, H, W, N), (M, P, Q, _) = x.shape, y.shape
        R, S = self.window.size
        tile = IMAGE_TILES[image_tile(M, P * Q * N)].on(self.be)
        tile = tile._replace(FLAT=int(C < tile.BK))
        names = (f"{name}_{axis}" for axis in "yx" for name in ("stride", "start", "step", "spread"))
        values = dict(zip(names, (*axes[0], *axes[1]), strict=True)) | {
            "C": C, "H": H, "W": W, "M": M, "P": P, "Q": Q, "N": N, "R": R, "S": S, "taps": R * S,
            "step_c": steps[0], "step_m": steps[1], "x": x, "y": y, "bias": bias, "beta": beta,
        }  # fmt: skip
        self.be.launch(self, "conv_pack", R * S * _up(M, 4), C, constants=tile._asdict(), **values)
        blocks = -(-M // tile.BM) * -(-(P * Q * N) // tile.BN)
        grid, block = (blocks, 1, 1), (tile.threads, 1, 1)
        self.be.launch(self, "conv_gather", grid=grid, block=block, constants=tile._asdict(), **values)

    def _weights(self, x: Array, dy: Array) -> None:
        """Add to the gradient of w."""
        (C, H, W, N), (K, P, Q, _) = x.shape, dy.shape
        taps = self.window.size[0] * self.window.size[1]
        tile, shares = self._weight_tile(K, C)
        share, count = shared_out(self.window, (H, W), (P, Q), N, bool(tile.FLAT), shares)
        values = self.window.constants() | {
            "H": H, "W": W, "P": P, "Q": Q, "share": share, "part": self.s.parts, "x": x, "dy": dy,
        }  # fmt: skip
        row, lists = (C * taps, 1) if tile.FLAT else (C, taps)
        room = self.s.parts.size // (K * row)  # shares at once
        for z0 in range(0, count, room):
            values |= {"z0": z0, "z1": min(z0 + room, count)}
            grid, block = (-(-row // tile.BN), -(-K // tile.BM), values["z1"] - z0), (tile.threads, 1, 1)
            self.be.launch(self, "conv_dw", grid=grid, block=block, constants=tile._asdict(), **values)
            across = 32 if count > 32 * lists else 256  # of many shares a sum is for 8 threads
            grid, block = (-(-K * row // across), lists, 1), (across, 256 // across, 1)
            self.be.launch(self, "conv_dw_sum", grid=grid, block=block, constants=tile._asdict(), **values)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: Conv(4, 3, pad=1), (3, 7, 6)
        yield lambda: Conv(5, 1), (3, 4, 5)
        yield lambda: Conv(2, 1, stride=2, bias=False), (3, 7, 6)
        yield lambda: Conv(3, (2, 3), stride=(3, 1), pad=(0, 2)), (2, 7, 6)
        yield lambda: Conv(2, 3, stride=2, pad=2, dilation=(1, 2)), (2, 7, 6)
