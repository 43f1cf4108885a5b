"""The geometry of a sliding window, as pooling layers and Conv share it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minet.core.layer import Layer, Shape
from minet.core.settings import is_whole

C_NAMES = {"uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned"}

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """What loops and kernels need to know of a window besides the sizes of input and output."""

    size: Pair
    stride: Pair
    pad: Pair
    dilation: Pair = (1, 1)


class Window(Geometry):
    """Size (R, S), stride, pad and dilation of a window, each (vertical, horizontal): a tuple of these four.

    `pad` lies above and left of the image, `behind` below and right of it, as much if None is given. With
    `ceil`, a last window may hang over the end. How far depends on the image: `on` gives the window with that
    as its `behind`.
    """

    behind: Pair
    ceil: bool

    def __new__(
        cls, size: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1), behind: Pair | None = None,
        ceil: bool = False,
    ) -> Window:  # fmt: skip
        window = super().__new__(cls, size, stride, pad, dilation)
        window.behind, window.ceil = pad if behind is None else behind, ceil
        return window

    def __eq__(self, other: object) -> bool:
        alike = not isinstance(other, Window) or (self.behind, self.ceil) == (other.behind, other.ceil)
        return alike and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = Geometry.__hash__

    @classmethod
    def of(cls, layer: Layer, window: Any, stride: Any = 1, pad: Any = 0, dilation: Any = 1) -> Window:
        """A window from a layer's settings, checked.

        Parameters
        ----------
        pad : int, (vertical, horizontal), ((top, bottom), (left, right)) or "same"
            "same" gives as many outputs as inputs; where the two sides differ, the one after has one more.
        """
        size, strides = pair(layer, "window", window), pair(layer, "stride", stride)
        spread = pair(layer, "dilation", dilation)
        if isinstance(pad, str) and pad == "same":
            if strides != (1, 1):
                raise layer.error(
                    f'pad="same" needs a stride of 1, got {brief(strides)}',
                    "a stride makes fewer outputs than inputs: give the pads as numbers",
                )
            total = [d * (r - 1) for r, d in zip(size, spread, strict=True)]
            before, after = (total[0] // 2, total[1] // 2), (-(-total[0] // 2), -(-total[1] // 2))
        else:
            before, after = sides(layer, pad)
        return cls(size, strides, before, spread, after)

    @classmethod
    def pool(
        cls, layer: Layer, window: Any, stride: Any, pad: Any, dilation: Any = 1, ceil: bool = False
    ) -> Window:
        """A pooling layer's window: stride None is the window's size; every window meets the image."""
        if not isinstance(ceil, bool):
            raise layer.error(f"ceil must be True or False, got {ceil!r}")
        made = cls.of(layer, window, window if stride is None else stride, pad, dilation)
        pads, spans = (*made.pad, *made.behind), made.spans * 2
        if any(pad >= span for pad, span in zip(pads, spans, strict=True)):
            spread = f" spread to {brief(made.spans)}" if made.spans != made.size else ""
            shown = made.pad if made.pad == made.behind else tuple(zip(made.pad, made.behind, strict=True))
            raise layer.error(
                f"pad {shown} must be smaller than the window {made.size}{spread}",
                "or a window could lie in the padding and pool nothing",
            )
        return cls(*made, behind=made.behind, ceil=ceil)

    @property
    def spans(self) -> Pair:
        """Pixels from the first tap to the last, along each axis."""
        (R, S), (DY, DX) = self.size, self.dilation
        return DY * (R - 1) + 1, DX * (S - 1) + 1

    def outputs(self, axis: int, size: int) -> int:
        """How many windows there are along an axis (0 vertical, 1 horizontal) of that size.

        With `ceil` by PyTorch's rule: a window counts if it begins in the image or in the pad before it.
        """
        before, stride = self.pad[axis], self.stride[axis]
        room = size + before + self.behind[axis] - self.spans[axis]
        if not self.ceil:
            return max(0, room // stride + 1)
        count = max(0, -(-room // stride) + 1)
        return count - 1 if (count - 1) * stride >= size + before else count

    def on(self, in_shape: Shape) -> Window:
        """The window on images ``(C, H, W)`` or longer: `behind` holds what the last windows hang over."""
        if not self.ceil:
            return self
        over = [
            max(
                self.behind[i],
                (self.outputs(i, size) - 1) * self.stride[i] + self.spans[i] - size - self.pad[i],
            )
            for i, size in enumerate(in_shape[1:3])
        ]
        return Window(*self, behind=(over[0], over[1]))

    @property
    def reach(self) -> Pair:
        """The most windows that contain one position."""
        down, across = (
            -(-size * math.gcd(stride, step) // stride)
            for size, stride, step in zip(self.size, self.stride, self.dilation, strict=True)
        )
        return down, across

    def places(self, axis: int) -> int:
        """The most windows that differ in what they meet inside the image: those over an edge, and one."""
        before, after, stride = self.pad[axis], self.behind[axis], self.stride[axis]
        return -(-before // stride) + 1 + -(-after // stride)

    @property
    def lanes(self) -> int:
        """The most samples per GPU thread, if it holds as many pixels as the horizontal stride."""
        return 4 if self.stride[1] <= 4 else 1

    def beginning(self, size: int, axis: int = 1) -> int:
        """How many groups of `stride` neighbours, in which the same windows begin, cover an axis and its pad.

        With a dilation there are none: each pixel is by itself.
        """
        if self.dilation != (1, 1):
            return size
        return (size - 1 + self.pad[axis]) // self.stride[axis] + 1

    @property
    def tap_dtype(self) -> str:
        """The smallest type that holds a position r*S + s in the window, R*S for none, and one more."""
        return str(np.min_scalar_type(self.size[0] * self.size[1] + 1).name)

    def padded(self, x: np.ndarray, outside: float = 0.0) -> np.ndarray:
        """A copy of images ``(C, H, W, N)`` in their padding: ``(C, pad + H + behind, ..., N)``.

        Of a window with `ceil`, call this on what `on` returns, like `taps` and `inside`.
        """
        down, across = zip(self.pad, self.behind, strict=True)
        return np.pad(x, ((0, 0), down, across, (0, 0)), constant_values=outside)

    def taps(self, padded: np.ndarray) -> np.ndarray:
        """What each tap of the window meets: a view ``(R, S, C, P, Q, N)`` of images from `padded`.

        ``taps[r, s]`` has the pixel at (r, s) of every window. It holds no pixel twice, so that
        ``taps[r, s] += ...`` adds what bprop gives to each. Several taps together may hold one more often.
        """
        (SY, SX), (DY, DX) = self.stride, self.dilation
        views = np.lib.stride_tricks.sliding_window_view(padded, self.spans, axis=(1, 2), writeable=True)
        return views[:, ::SY, ::SX, :, ::DY, ::DX].transpose(4, 5, 0, 1, 2, 3)

    def inside(self, padded: np.ndarray) -> np.ndarray:
        """The images without their padding: a view ``(C, H, W, N)`` of what `padded` returned."""
        (PY, PX), (below, right), (_, height, width, _) = self.pad, self.behind, padded.shape
        return padded[:, PY : height - below, PX : width - right]

    def constants(self) -> dict[str, Any]:
        """The window as a CUDA kernel's compile-time constants: R S, SY SX, PY PX, DY DX, and TAP_T."""
        names = ("R", "S", "SY", "SX", "PY", "PX", "DY", "DX")
        numbers = (number for both in self for number in both)
        return dict(zip(names, numbers, strict=True)) | {"TAP_T": C_NAMES[self.tap_dtype]}

    def out_hw(self, layer: Layer, in_shape: Shape, empty: bool = False) -> Pair:
        """Output height and width (P, Q), or the layer's error if the window does not fit.

        Parameters
        ----------
        empty : bool
            Whether a window may meet nothing of the image but its padding.
        """
        out = []
        for axis, (name, size) in enumerate(zip("HW", in_shape[1:], strict=False)):
            before, after, step = self.pad[axis], self.behind[axis], self.dilation[axis]
            pad = before if before == after else (before, after)
            where = f"{name}={size} with pad {pad}"
            what = f"window {brief(self.size)}" + (f" spread by dilation {step}" if step > 1 else "")
            out.append(self.outputs(axis, size))
            if not out[-1]:
                raise layer.error(f"{what} does not fit {where}", "raise pad or shrink window")
            # Without dilation, `pool` has seen to it; a spread window may straddle a small image.
            if step > 1 and not empty and not self._met(axis, size, out[-1]):
                raise layer.error(f"{what} meets only padding of {where}", "lower dilation or pad")
        return out[0], out[1]

    def _met(self, axis: int, size: int, count: int) -> bool:
        """Whether each window has a tap inside the image."""
        start = np.arange(count) * self.stride[axis] - self.pad[axis]
        step = self.dilation[axis]
        first = start + np.maximum(0, -(start // step)) * step  # of the taps at 0 or later
        return bool((first <= np.minimum(size - 1, start + self.spans[axis] - 1)).all())


MARCHING = 1 << 17  # GPU threads that it takes to hide memory latency
MOST = 1 << 15  # bands; a grid has at most 65535 blocks along y


def bands(threads: int, rows: int, reach: int) -> int:
    """How many bands a march of `threads` threads down `rows` rows is cut into; they overlap by reach - 1."""
    return max(1, min(-(-MARCHING // max(1, threads)), rows // max(1, 2 * (reach - 1)), MOST))


def is_usual(value: Any, usual: Any) -> bool:
    """Whether a setting, given as one number or as several, is the usual one."""
    if usual is None or value is None:
        return value is usual
    try:
        return not isinstance(value, str) and bool(np.all(np.equal(value, usual)))
    except (TypeError, ValueError):  # such as ((1, 2), 3)
        return False


def brief(both: Pair) -> str:
    """Two numbers as in a sentence: 3x5."""
    return "x".join(map(str, both))


def pair(layer: Layer, name: str, value: Any, least: int = 1) -> Pair:
    """A setting given as an int or as (vertical, horizontal), checked to be whole and at least `least`."""
    if (both := _pair(value, least)) is None:
        hint = f"use {name}=3 or {name}=(3, 5)" if least else f"use {name}=0 or {name}=(1, 2)"
        raise layer.error(f"{name} must be one or two whole numbers of at least {least}, got {value!r}", hint)
    return both


def sides(layer: Layer, pad: Any) -> tuple[Pair, Pair]:
    """The pads before and after the image, each (vertical, horizontal), from any form but "same"."""
    if (both := _pair(pad, 0)) is not None:
        return both, both
    try:
        vertical, horizontal = (_pair(part, 0) for part in pad)
    except (TypeError, ValueError):
        vertical = horizontal = None
    if vertical is None or horizontal is None or isinstance(pad, str):
        raise layer.error(
            f'pad must be whole numbers of at least 0, or "same", got {pad!r}',
            'use pad=1, pad=(1, 2), pad=((top, bottom), (left, right)) or pad="same"',
        )
    return (vertical[0], horizontal[0]), (vertical[1], horizontal[1])


def _pair(value: Any, least: int) -> Pair | None:
    """One or two whole numbers as two, or None."""
    try:
        first, second = (value, value) if is_whole(value) else value
        if (int(first), int(second)) != (first, second) or min(first, second) < least:
            return None
    except (TypeError, ValueError, OverflowError):
        return None
    return int(first), int(second)
