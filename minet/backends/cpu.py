"""The CPU, the reference backend: NumPy arrays and the Numba kernels of minet.loops."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minet.backends import first_call
from minet.backends.base import Backend, limits
from minet.core.layer import Array, Shape, update
from minet.core.loss.base import number
from minet.core.memory import Slot, aligned
from minet.core.node import Node

LARGE = 1 << 20  # elements from which on a copy is worth starting several cores for


class HostMemory(Backend):
    """A backend whose arrays are NumPy's: the memory of the cpu and of the emulator."""

    def empty(self, shape: Shape, dtype: Any = None) -> np.ndarray:
        return aligned(shape, np.dtype(dtype or self.dtype))

    def zeros(self, shape: Shape, dtype: Any = None) -> np.ndarray:
        out = self.empty(shape, dtype)
        out.fill(0)
        return out

    def array(self, values: Any, dtype: Any = None) -> np.ndarray:
        return np.ascontiguousarray(values, dtype or self.dtype)

    def is_native(self, values: Any) -> bool:
        given = isinstance(values, np.ndarray)
        return given and values.dtype == self.dtype and values.flags.c_contiguous

    def get(self, array: np.ndarray) -> np.ndarray:
        return array

    def copy(self, src: Any, dst: np.ndarray) -> None:
        np.copyto(dst, src)

    def overlap(self, a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.may_share_memory(a, b))

    def fill(self, array: np.ndarray, value: float) -> None:
        array.fill(value)

    def gemm(
        self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0, trans: str = "nn"
    ) -> None:
        from minet.loops.conv.gemm import gemm

        gemm(a, b, out, alpha, beta, trans)


class CPU(HostMemory):
    """The CPU: it runs a layer's `fprop_cpu` and `bprop_cpu`."""

    name = "cpu"

    def free_memory(self) -> int | None:
        with contextlib.suppress(OSError, StopIteration, ValueError), open("/proc/meminfo") as lines:
            line = next(line for line in lines if line.startswith("MemAvailable:"))
            return int(line.split()[1]) << 10
        return None

    def copy(self, src: Any, dst: np.ndarray) -> None:
        alike = self.is_native(src) and self.is_native(dst) and src.shape == dst.shape
        if dst.size < LARGE or not alike or self.overlap(src, dst):
            super().copy(src, dst)
            return
        from minet.loops.arithmetic import copy

        copy(src.reshape(-1), dst.reshape(-1))

    @property
    def own_memory(self) -> int:
        """Bytes of compiled kernels and each thread's packing, by ``minet bench inception zeiler``."""
        from numba import get_num_threads

        return (13 + int(get_num_threads())) << 20

    def sum_is_finite(self, array: np.ndarray) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            return math.isfinite(float(array.sum()))

    def axpby(self, alpha: float, x: Array, beta: float, y: Array) -> None:
        update(y, x if alpha == 1 else alpha * x, beta)

    def sum_rows(self, a: Array, out: Array, beta: float = 0.0) -> None:
        from minet.loops.arithmetic import sum_rows

        sum_rows(a, out, beta)

    def add_bias(self, y: Array, b: Array) -> None:
        y += b[:, None]

    def solver_step(
        self, stem: str, slots: Iterable[Slot], flat: Mapping[str, Array], verdict: Array | None, **fixed: Any
    ) -> Callable[..., None]:
        steps = getattr(importlib.import_module(f"minet.loops.{stem}"), f"{stem}_steps")
        parts = []
        for slot in (slot for slot in slots if slot.param.lr):
            arrays = (slot.place(buffer).reshape(-1) for buffer in flat.values())
            parts.append((*arrays, slot.param.lr, slot.param.decay, *limits(slot.param.bounds)))

        def update(scale: float | None = None, clip: float = math.inf, **settings: Any) -> None:
            steps(parts, scale=1.0 if scale is None else scale, clip=clip, **fixed, **settings)

        return update

    def clip_scale(self, slots: Iterable[Slot], grads: Array) -> Callable[[float], Any]:
        gradients = [slot.place(grads).reshape(-1) for slot in slots if slot.param.lr]

        def scale(most: float) -> float:
            from minet.loops.clip import clip_scale

            return float(clip_scale(gradients, most))

        return scale

    def run(self, node: Node, phase: str, *args: Any) -> Any:
        # A string rebuilt at each call would miss CPython's attribute cache, and fill it up.
        code = getattr(node, sys.intern(f"{phase}_cpu"), None)
        if code is None:
            found = f"{type(node).__name__} has no {phase}_cpu and does not override {phase}"
            raise node.error(found, f"write {phase}_cpu(...) in NumPy: see the Layer docstring")
        if self.tried is None or (type(node), phase, node.train) in self.tried:
            result = code(*args)
        else:
            result = first_call.run(self.tried, node, phase, code, args)
        if phase == "loss":
            return number(node, result)
        if result is not None:
            raise first_call.returned(node, phase, result)
        return None
