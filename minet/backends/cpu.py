"""The CPU: NumPy arrays and the Numba kernels of minet.kernels. The reference."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from minet.backends.base import Backend
from minet.layer import Array, Layer, LayerError, Shape, update

LINE = 64  # bytes of a cache line; arrays start on one, so that SIMD loads never straddle two


def aligned(shape: Shape, dtype: np.dtype) -> np.ndarray:
    """An array of whatever the memory holds, from a cache line on."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


class HostMemory(Backend):
    """Arrays are NumPy's: the memory of the cpu, and of the emulator."""

    def empty(self, shape: Shape, dtype: Any = None) -> np.ndarray:
        return aligned(shape, np.dtype(dtype or self.dtype))

    def zeros(self, shape: Shape, dtype: Any = None) -> np.ndarray:
        out = self.empty(shape, dtype)
        out.fill(0)
        return out

    def array(self, values: Any, dtype: Any = None) -> np.ndarray:
        return np.ascontiguousarray(values, dtype or self.dtype)

    def get(self, array: np.ndarray) -> np.ndarray:
        return array

    def copy(self, src: Any, dst: np.ndarray) -> None:
        np.copyto(dst, src)

    def fill(self, array: np.ndarray, value: float) -> None:
        array.fill(value)

    def gemm(
        self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0, trans: str = "nn"
    ) -> None:
        from minet.kernels.gemm import gemm

        gemm(a, b, out, alpha, beta, trans)


class CPU(HostMemory):
    """A layer's code is its `fprop_cpu` and `bprop_cpu`."""

    name = "cpu"

    @property
    def own_memory(self) -> int:
        """Compiled kernels, and what each thread packs; as measured: ``minet bench inception zeiler``."""
        from numba import get_num_threads

        return (13 + int(get_num_threads())) << 20

    def finite(self, array: np.ndarray) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            return math.isfinite(float(array.sum()))

    def axpby(self, alpha: float, x: Array, beta: float, y: Array) -> None:
        update(y, x if alpha == 1 else alpha * x, beta)

    def sum_rows(self, a: Array, out: Array, beta: float = 0.0) -> None:
        from minet.kernels.gemm import sum_rows

        sum_rows(a, out, beta)

    def add_bias(self, y: Array, b: Array) -> None:
        y += b[:, None]

    def im2col(self, x: Array, col: Array, geometry: Any, rows: tuple[int, int]) -> None:
        from minet.kernels.im2col import im2col

        im2col(x, col, *geometry, rows)

    def col2im(self, col: Array, dx: Array, geometry: Any, rows: tuple[int, int], beta: float = 0.0) -> None:
        from minet.kernels.im2col import col2im

        col2im(col, dx, *geometry, rows, beta)

    def sgd_step(
        self, w: Array, g: Array, v: Array, *, lr: float, momentum: float, decay: float, nesterov: bool,
        bounds: tuple[float | None, float | None] | None,
    ) -> None:  # fmt: skip
        from minet.kernels.sgd import sgd_step

        low, high = bounds or (None, None)
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        sgd_step(w.reshape(-1), g.reshape(-1), v.reshape(-1), lr, momentum, decay, nesterov, low, high)

    def run(self, layer: Any, phase: str, *args: Any) -> Any:
        # A name made anew at each call would miss CPython's cache of attributes, and fill it.
        code = getattr(layer, sys.intern(f"{phase}_cpu"), None)
        if code is None:
            found = f"{type(layer).__name__} has no {phase}_cpu, and overrides no {phase}"
            where = layer if isinstance(layer, Layer) else None
            raise LayerError(found, f"write {phase}_cpu(...) in NumPy: see the Layer docstring", layer=where)
        return code(*args)
