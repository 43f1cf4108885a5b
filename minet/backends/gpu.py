"""What a GPU and its emulator have in common: how layers compute there, and arithmetic on arrays."""

from __future__ import annotations

import math
from typing import Any

from minet.backends import cuda_source, host_fallback
from minet.backends.launcher import MOST_ROWS, THREADS, Launcher
from minet.core.errors import MinetError
from minet.core.layer import Array, Layer, Shape
from minet.core.node import Node

CHUNK, SHARES = 1 << 12, 256  # in reductions a share sums at least CHUNK terms, and a row has at most SHARES


class GPU(Launcher):
    """A backend on which layers compute with the kernels of .cu files.

    Parameters
    ----------
    dtype : str
        "float32", the only type that kernels compute in.
    strict : bool
        Refuse layers that have no kernel, instead of computing them on the host.
    sync : bool
        Wait for each kernel, so that a fault is reported with the kernel that caused it.
    """

    declarations = ("state", "state_gpu")

    def __init__(self, dtype: str = "float32", *, strict: bool = False, sync: bool = False) -> None:
        if dtype != "float32":
            found = f"the backend {self.name!r} computes in float32, got {dtype!r}"
            raise MinetError(found, "use the cpu backend for float64")
        super().__init__(dtype)
        self.strict, self.sync = strict, sync
        self._how: dict[tuple[type, str], tuple[str, Any]] = {}
        self._warned: set[str] = set()

    # -- layers ---------------------------------------------------------------------------------------

    def run(self, node: Node, phase: str, *args: Any) -> Any:
        how, code = self.how(type(node), phase)
        if how == "method":
            return code(node, *args)
        if how == "kernel":
            return self._run_kernel(node, phase, code, *args)
        if self.strict:
            raise host_fallback.refusal(node)
        return host_fallback.run(self, self._warned, node, phase, args)

    def how(self, cls: type, phase: str) -> tuple[str, Any]:
        """How a class computes here: "method" (its fprop_gpu), "kernel" (its .cu file) or "host".

        The first of the class and its bases that defines the phase decides. So a subclass that computes
        something else on the cpu does not run its base's kernel.
        """
        if (cls, phase) not in self._how:
            self._how[cls, phase] = self._look(cls, phase)
        return self._how[cls, phase]

    def _look(self, cls: type, phase: str) -> tuple[str, Any]:
        for base in cls.__mro__:
            if code := vars(base).get(f"{phase}_gpu"):
                return "method", code
            path = cuda_source.beside(base) if phase != "loss" else None
            if path and (name := cuda_source.kernel_of(base, phase, self.read(path))):
                return "kernel", name
            if f"{phase}_cpu" in vars(base):
                return "host", None
        return "host", None

    def native(self, layer: Layer) -> bool:
        overridden = type(layer).fprop is not Layer.fprop
        return overridden or all(self.how(type(layer), phase)[0] != "host" for phase in ("fprop", "bprop"))

    def _run_kernel(self, layer: Any, phase: str, name: str, x: Array, y: Array, *rest: Any) -> None:
        if phase == "fprop":
            self.launch(layer, name, *_threads(y), x=x, y=y, beta=rest[0])
        elif rest[0] is not None or layer.p:
            self.launch(layer, name, *_threads(x), x=x, dy=y, dx=rest[0], beta=rest[1])

    # -- arithmetic -----------------------------------------------------------------------------------

    def call_own(
        self, stem: str, name: str, values: dict[str, Any], size: int | None = None, rows: int = 1,
        constants: dict[str, Any] | None = None, grid: Shape | None = None, block: Shape | None = None,
    ) -> None:  # fmt: skip
        """Launch a kernel that belongs to no layer: `name` in minet's ``kernels/<stem>.cu``."""
        self.call(cuda_source.own(stem), name, constants or {}, values, size, rows, grid, block)

    def axpby(self, alpha: float, x: Array, beta: float, y: Array) -> None:
        values = {"x": x, "y": y, "alpha": alpha, "beta": beta, "size": y.size}
        self.call_own("arithmetic", "axpby", values, y.size)

    def sum_is_finite(self, array: Array) -> bool:
        if not array.size:
            return True
        total = self.empty((1,))
        self.sum_rows(array.reshape(1, -1), total)
        return math.isfinite(float(self.get(total)[0]))

    def sum_rows(self, a: Array, out: Array, beta: float = 0.0) -> None:
        rows, length = a.shape
        shares = max(1, min(SHARES, length // CHUNK))
        block, down = (THREADS, 1, 1), min(rows, MOST_ROWS)
        step = a.strides[0] // a.dtype.itemsize
        if shares > 1:
            partial = self.empty((rows, shares))
            values = {"a": a, "step": step, "out": partial, "rows": rows, "length": length, "beta": 0.0}
            self.call_own("arithmetic", "sum_rows", values, grid=(shares, down, 1), block=block)
            a, step, length = partial, shares, shares
        values = {"a": a, "step": step, "out": out, "rows": rows, "length": length, "beta": beta}
        self.call_own("arithmetic", "sum_rows", values, grid=(1, down, 1), block=block)

    def add_bias(self, y: Array, b: Array) -> None:
        rows, length = y.shape
        step = y.strides[0] // y.dtype.itemsize
        values = {"y": y, "step": step, "b": b, "rows": rows, "length": length}
        self.call_own("arithmetic", "add_bias", values, length, rows)

    def im2col(self, x: Array, col: Array, geometry: Any, rows: tuple[int, int]) -> None:
        across = col.shape[1] // (rows[1] - rows[0])
        self._windows("im2col", across, col.size // across, x, col, geometry, rows, 0.0)

    def col2im(self, col: Array, dx: Array, geometry: Any, rows: tuple[int, int], beta: float = 0.0) -> None:
        C, H, W, N = dx.shape
        self._windows("col2im", W * N, C * H, dx, col, geometry, rows, beta)

    def _windows(
        self, name: str, across: int, down: int, image: Array, col: Array, geometry: Any,
        rows: tuple[int, int], beta: float,
    ) -> None:  # fmt: skip
        C, H, W, N = image.shape
        P, Q = (geometry.outputs(axis, length) for axis, length in enumerate((H, W)))
        values = {
            "image": image, "col": col, "C": C, "H": H, "W": W, "N": N, "P": P, "Q": Q,
            "p0": rows[0], "p1": rows[1], "beta": beta,
        }  # fmt: skip
        self.call_own("im2col", name, values, across, down, geometry.constants())

    def sgd_step(
        self, w: Array, g: Array, v: Array, *, lr: float, momentum: float, decay: float, nesterov: bool,
        bounds: tuple[float | None, float | None] | None,
    ) -> None:  # fmt: skip
        low, high = bounds or (None, None)
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        values = {
            "w": w, "g": g, "v": v, "size": w.size, "lr": lr, "momentum": momentum, "decay": decay,
            "nesterov": nesterov, "low": low, "high": high,
        }  # fmt: skip
        self.call_own("sgd", "sgd_step", values, w.size)


def _threads(image: Array) -> tuple[int, int]:
    """The size of a launch with a thread per element of an image: elements in a row, and rows."""
    C, H, W, N = image.shape
    return W * N, C * H
