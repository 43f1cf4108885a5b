"""What a GPU and its emulator have in common: how layers compute there, and arithmetic on arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minet.backends import cuda_source, host_fallback
from minet.backends.base import limits
from minet.backends.launcher import MOST_ROWS, THREADS, Launcher
from minet.core.errors import MinetError
from minet.core.layer import Array, Layer, Shape
from minet.core.memory import Slot
from minet.core.node import Node

CHUNK, SHARES = 1 << 12, 256  # in reductions a share sums at least CHUNK terms, and a row has at most SHARES
JUDGES = 256  # threads of the kernel `judge`
FOUR = {"LANES": 4}  # numbers that a thread takes at once


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
    tf32 : bool
        Let matrix products round their factors to the 11 bits of TF32, for speed.
    """

    declarations = ("state", "state_gpu")
    judges = True

    def __init__(
        self, dtype: str = "float32", *, strict: bool = False, sync: bool = False, tf32: bool = False
    ) -> None:
        if dtype != "float32":
            found = f"the backend {self.name!r} computes in float32, got {dtype!r}"
            raise MinetError(found, "use the cpu backend for float64")
        super().__init__(dtype)
        self.strict, self.sync, self.tf32 = strict, sync, tf32
        self._how: dict[tuple[type, str], tuple[str, Any]] = {}
        self._warned: set[str] = set()

    # -- layers ---------------------------------------------------------------------------------------

    def run(self, node: Node, phase: str, *args: Any) -> Any:
        result = self.started(node, phase, *args)
        return float(np.sum(self.get(result))) if getattr(result, "shape", ()) else result

    def started(self, node: Node, phase: str, *args: Any) -> Any:
        """Run a phase as `run` does, but leave a loss in the terms that its `loss_gpu` returns."""
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
            for path in cuda_source.files_of(base) if phase != "loss" else ():
                if name := cuda_source.kernel_of(base, phase, self.read(path)):
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
        values, lanes = {"x": x, "y": y, "alpha": alpha, "beta": beta, "size": y.size}, self.lanes(4, x, y)
        self.call_own("arithmetic", "axpby", values, -(-y.size // lanes), constants={"LANES": lanes})

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

    # -- a training step ------------------------------------------------------------------------------

    def taken(self, values: Any, into: Array) -> Array:
        """Always `into`, set to the values: a step that is replayed reads them at the same place."""
        self.copy(values, into)
        return into

    def judge(self, terms: Array, grads: Array, verdict: Array) -> None:
        """``verdict <- (loss, refused)``: the loss is the sum of terms, and refused is 0 or 1.

        It is 1 if the loss or the sum of the gradients is not finite. Once it is 1, the verdict stays.
        """
        total = None
        if grads.size:
            total = self.empty((1,))
            self.sum_rows(grads.reshape(1, -1), total)
        values = {"terms": terms, "count": terms.size, "sum": total, "verdict": verdict}
        self.call_own("step", "judge", values, grid=(1, 1, 1), block=(JUDGES, 1, 1))

    def take_back(self, kept: Array, state: Array, verdict: Array) -> None:
        """``state <- kept`` if the verdict is "refused"; both are bytes, in multiples of 4."""
        words = {"kept": kept.view("uint32"), "state": state.view("uint32")}
        self.call_own(
            "step", "take_back", words | {"verdict": verdict, "size": state.size // 4}, state.size // 4
        )

    def solver_step(
        self, stem: str, slots: Iterable[Slot], flat: Mapping[str, Array], verdict: Array | None, **fixed: Any
    ) -> Callable[..., None]:
        learning = [slot for slot in slots if slot.param.lr]
        each = [(slot.param.lr, slot.param.decay, *limits(slot.param.bounds)) for slot in learning]
        fixed |= {"places": self._places(learning), "each": self.array(each, "float64")}
        fixed |= {"verdict": verdict, "parameters": len(learning)}
        most = max((slot.value.size for slot in learning), default=0)
        grid = (min(-(-most // (4 * THREADS)), SHARES), min(len(learning), MOST_ROWS), 1)

        def update(scale: Array | None = None, clip: float = math.inf, **settings: Any) -> None:
            if learning:
                values = {**flat, **fixed, **settings, "scale": scale, "clip": clip}
                self.call_own(stem, f"{stem}_steps", values, grid=grid, block=(THREADS, 1, 1), constants=FOUR)

        return update

    def clip_scale(self, slots: Iterable[Slot], grads: Array) -> Callable[[float], Any]:
        learning = [slot for slot in slots if slot.param.lr]
        blocks = max(1, min(-(-sum(slot.value.size for slot in learning) // CHUNK), SHARES))
        partial, scale = self.zeros((blocks,), "float64"), self.zeros((1,), "float64")
        shares = {
            "g": grads,
            "places": self._places(learning),
            "parameters": len(learning),
            "partial": partial,
        }

        def scaled(most: float) -> Array:
            block, total = (
                (THREADS, 1, 1),
                {"partial": partial, "count": blocks, "most": most, "scale": scale},
            )
            self.call_own("clip", "squares", shares, grid=(blocks, 1, 1), block=block, constants=FOUR)
            self.call_own("clip", "clip_scale", total, grid=(1, 1, 1), block=block, constants=FOUR)
            return scale

        return scaled

    def _places(self, slots: list[Slot]) -> Array:
        """Start and size of each slot in the net's buffers."""
        return self.array([(slot.start, slot.value.size) for slot in slots], "int64")


def _threads(image: Array) -> tuple[int, int]:
    """The size of a launch with a thread per element of an image: elements in a row, and rows."""
    C, H, W, N = image.shape
    return W * N, C * H
