"""The geometry of a sliding window, as pooling layers and Conv share it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minet.core.layer import Layer, Shape
from minet.core.settings import is_whole

C_NAMES = {"uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned"}


class Window(NamedTuple):
    """Size (R, S), stride, pad and dilation of a window, each (vertical, horizontal)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @classmethod
    def pool(cls, layer: Layer, window: Any, stride: Any, pad: Any) -> Window:
        """A pooling layer's window: stride None is the window's size; every window meets the image."""
        size = pair(layer, "window", window)
        pads = pair(layer, "pad", pad, 0)
        if pads[0] >= size[0] or pads[1] >= size[1]:
            raise layer.error(
                f"pad {pads} must be smaller than the window {size}",
                "or a window could lie in the padding and pool nothing",
            )
        return cls(size, size if stride is None else pair(layer, "stride", stride), pads)

    def outputs(self, axis: int, size: int) -> int:
        """How many windows fit along an axis (0 vertical, 1 horizontal) of that size."""
        r, s, p, d = (numbers[axis] for numbers in self)
        return (size + 2 * p - d * (r - 1) - 1) // s + 1

    @property
    def reach(self) -> tuple[int, int]:
        """The most windows that contain one position."""
        (R, S), (SY, SX) = self.size, self.stride
        return -(-R // SY), -(-S // SX)

    @property
    def lanes(self) -> int:
        """The most samples per GPU thread, if it holds as many pixels as the horizontal stride."""
        return 4 if self.stride[1] <= 4 else 1

    def beginning(self, size: int, axis: int = 1) -> int:
        """How many groups of `stride` neighbours cover an axis and its front padding."""
        return (size - 1 + self.pad[axis]) // self.stride[axis] + 1

    @property
    def tap_dtype(self) -> str:
        """The smallest type that holds a position r*S + s in the window, R*S for none, and one more."""
        return str(np.min_scalar_type(self.size[0] * self.size[1] + 1).name)

    def padded(self, x: np.ndarray, outside: float = 0.0) -> np.ndarray:
        """A copy of images ``(C, H, W, N)`` in their padding: ``(C, H + 2*pad, W + 2*pad, N)``."""
        PY, PX = self.pad
        return np.pad(x, ((0, 0), (PY, PY), (PX, PX), (0, 0)), constant_values=outside)

    def taps(self, padded: np.ndarray) -> np.ndarray:
        """What each tap of the window meets: a view ``(R, S, C, P, Q, N)`` of images from `padded`.

        ``taps[r, s]`` has the pixel at (r, s) of every window. It holds no pixel twice, so that
        ``taps[r, s] += ...`` adds what bprop gives to each. Several taps together may hold one more often.
        """
        (R, S), (SY, SX), _, (DY, DX) = self
        reach = DY * (R - 1) + 1, DX * (S - 1) + 1
        views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2), writeable=True)
        return views[:, ::SY, ::SX, :, ::DY, ::DX].transpose(4, 5, 0, 1, 2, 3)

    def inside(self, padded: np.ndarray) -> np.ndarray:
        """The images without their padding: a view ``(C, H, W, N)`` of what `padded` returned."""
        (PY, PX), (_, height, width, _) = self.pad, padded.shape
        return padded[:, PY : height - PY, PX : width - PX]

    def constants(self) -> dict[str, Any]:
        """The window as a CUDA kernel's compile-time constants: R S, SY SX, PY PX, DY DX, and TAP_T."""
        names = ("R", "S", "SY", "SX", "PY", "PX", "DY", "DX")
        numbers = (number for both in self for number in both)
        return dict(zip(names, numbers, strict=True)) | {"TAP_T": C_NAMES[self.tap_dtype]}

    def out_hw(self, layer: Layer, in_shape: Shape) -> tuple[int, int]:
        """Output height and width (P, Q), rounded down, or the layer's error if the window does not fit."""
        out = []
        for axis, size, r, p, d in zip("HW", in_shape[1:], self.size, self.pad, self.dilation, strict=True):
            reach = d * (r - 1) + 1
            if reach > size + 2 * p:
                spread = f" spread by dilation {d}" if d > 1 else ""
                raise layer.error(
                    f"window {self.size[0]}x{self.size[1]}{spread} does not fit {axis}={size} with pad {p}",
                    "raise pad or shrink window",
                )
            out.append(self.outputs("HW".index(axis), size))
        return out[0], out[1]


MARCHING = 1 << 17  # GPU threads that it takes to hide memory latency
MOST = 1 << 15  # bands; a grid has at most 65535 blocks along y


def bands(threads: int, rows: int, reach: int) -> int:
    """How many bands a march of `threads` threads down `rows` rows is cut into; they overlap by reach - 1."""
    return max(1, min(-(-MARCHING // max(1, threads)), rows // max(1, 2 * (reach - 1)), MOST))


def pair(layer: Layer, name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """A setting given as an int or as (vertical, horizontal), checked to be whole and at least `least`."""
    both = (value, value) if is_whole(value) else value
    try:
        vertical, horizontal = both
        if (int(vertical), int(horizontal)) != (vertical, horizontal) or min(vertical, horizontal) < least:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        hint = f"use {name}=3 or {name}=(3, 5)" if least else f"use {name}=0 or {name}=(1, 2)"
        raise layer.error(
            f"{name} must be one or two whole numbers of at least {least}, got {value!r}", hint
        ) from None
    return int(vertical), int(horizontal)
