"""What a GPU and its emulator have in common: which kernel runs, on what grid, with which arguments."""

from __future__ import annotations

import math
import struct
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from minet.backends import host, source
from minet.backends.base import Backend
from minet.backends.source import Kernel, Source
from minet.errors import MinetError
from minet.layer import Array, Layer, LayerError, Shape
from minet.naming import short, stem_of

THREADS = 256  # of a block, unless a layer chooses
MOST_ROWS = 65535  # of a grid; kernels stride over the rest
BLOCKS = 1 << 16  # of a one-dimensional grid, likewise
WIDE = 2**30  # elements of an array; from here on kernels count in 64 bits
IMAGES = ("x", "y", "dy", "dx")  # arguments of a layer's kernels that are (C, H, W, N)
CHUNK, SHARES = 1 << 12, 256  # reductions: a share sums at least CHUNK terms, a row has up to SHARES


class KernelError(LayerError):
    """A kernel that is not there, or that asks for what its layer has not."""


class GPU(Backend):
    """A backend that launches kernels of .cu files.

    Parameters
    ----------
    dtype : str
        "float32"; kernels have no other.
    strict : bool
        Refuse layers that have no kernel, instead of computing them on the host.
    sync : bool
        Wait for each kernel, so that a fault is told with the kernel that caused it.
    """

    def __init__(self, dtype: str = "float32", *, strict: bool = False, sync: bool = False) -> None:
        if dtype != "float32":
            raise MinetError(f"the backend {self.name!r} computes in float32, got {dtype!r}", "float64: cpu")
        super().__init__(dtype)
        self.strict, self.sync = strict, sync
        self._functions: dict[Any, Any] = {}
        self._how: dict[tuple[type, str], tuple[str, Any]] = {}
        self._warned: set[str] = set()

    # -- what a device adds ---------------------------------------------------------------------------

    @abstractmethod
    def load(self, code: Source, constants: dict[str, Any]) -> Any:
        """The module that the compiler makes of the source with these constants."""

    @abstractmethod
    def start(
        self, module: Any, kernel: Kernel, grid: Shape, block: Shape, args: bytes, arrays: Any,
        shared: int = 0,
    ) -> None:  # fmt: skip
        """Launch a kernel of the module; `arrays` are those whose addresses stand in `args`."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """Where the array's first element lies."""

    # -- layers ---------------------------------------------------------------------------------------

    def run(self, layer: Any, phase: str, *args: Any) -> Any:
        how, code = self.how(type(layer), phase)
        if how == "method":
            return code(layer, *args) if isinstance(layer, Layer) else code(layer, self, *args)
        if how == "kernel":
            return self._run_kernel(layer, phase, code, *args)
        return host.run(self, self._warned, layer, phase, args)

    def how(self, cls: type, phase: str) -> tuple[str, Any]:
        """How a class computes here: "method" (its fprop_gpu), "kernel" (its .cu file) or "host".

        Of the class and its bases the first that says anything about the phase decides: a subclass that
        computes something else on the cpu does not run with the kernel of its base.
        """
        if (cls, phase) not in self._how:
            self._how[cls, phase] = self._look(cls, phase)
        return self._how[cls, phase]

    def _look(self, cls: type, phase: str) -> tuple[str, Any]:
        for base in cls.__mro__:
            if code := vars(base).get(f"{phase}_gpu"):
                return "method", code
            path, name = source.beside(base), f"{stem_of(base.__name__)}_{phase}"
            if path and phase != "loss" and name in source.read(path).kernels:
                return "kernel", name
            if f"{phase}_cpu" in vars(base):
                return "host", None
        return "host", None

    def native(self, layer: Layer) -> bool:
        overridden = type(layer).fprop is not Layer.fprop
        return overridden or all(self.how(type(layer), phase)[0] != "host" for phase in ("fprop", "bprop"))

    def _run_kernel(self, layer: Layer, phase: str, name: str, x: Array, y: Array, *rest: Any) -> None:
        if phase == "fprop":
            self.launch(layer, name, *_threads(y), x=x, y=y, beta=rest[0])
        elif rest[0] is not None or layer.p:
            self.launch(layer, name, *_threads(x), x=x, dy=y, dx=rest[0], beta=rest[1])

    def launch(
        self, layer: Layer, name: str, size: int, rows: int = 1, *,
        grid: Shape | None = None, block: Shape | None = None, shared: int = 0, **values: Any,
    ) -> None:  # fmt: skip
        """Launch a kernel of the layer's .cu file, or of that of a class that it builds on.

        A parameter of the kernel is given what its name says: one of `values`; the layer's parameters (``a``)
        and their gradients (``da``); its state; the sizes C H W of its input, K P Q of its output, and N; the
        draw's ``key0 key1 step``; ``train``. None is a null pointer. The constants are the layer's; LANES,
        how many samples a thread takes at once, is the most: where the images do not allow that it is 1.

        Parameters
        ----------
        size, rows : int
            Threads wanted: `size` along x in each of `rows` rows. A kernel strides over what is beyond.
        grid, block : tuple of int, optional
            Blocks and threads, where the kernel wants its own.
        shared : int
            Bytes of the kernel's ``extern __shared__`` memory.

        Raises
        ------
        KernelError
            If the kernel asks for what there is not, or for an array of another type.
        """
        files = [found for cls in type(layer).__mro__ if (found := source.beside(cls))]
        if not files:
            raise layer.error(f"has no kernel file for {name}", f"write {layer.stem()}.cu beside its file")
        path = next((file for file in files if name in source.read(file).kernels), files[0])
        (C, H, W), (K, P, Q) = layer.bound_shapes
        image = next(values[name] for name in ("x", "dy") if values.get(name) is not None)
        known = {
            "C": C, "H": H, "W": W, "K": K, "P": P, "Q": Q, "N": image.shape[-1],
            "key0": layer.key[0], "key1": layer.key[1], "step": layer.clock.step, "train": layer.train,
        }  # fmt: skip
        known |= {f"d{n}": grad for n, grad in layer.g.items()} | dict(layer.p) | dict(layer.s) | values
        constants = layer.constants()
        if most := constants.get("LANES"):
            own = (array for array in layer.s.values() if array.ndim == 4 and array.shape[-1] == known["N"])
            if max(W, Q) * known["N"] >= WIDE:
                raise layer.error(f"rows of {max(W, Q)} x {known['N']} numbers: too long", "a smaller batch")
            constants["LANES"] = self.lanes(most, *(values.get(name) for name in IMAGES), *own)
            size = -(-size // constants["LANES"])
        self.call(path, name, constants, known, size, rows, grid, block, shared, layer)

    def lanes(self, most: int, *images: Any) -> int:
        """Samples that a thread can read as one: `most`, if N and all addresses are multiples, else 1."""
        given = [image for image in images if image is not None]
        fit = (i.shape[-1] % most == 0 and self.address(i) % (most * i.dtype.itemsize) == 0 for i in given)
        return most if all(fit) else 1

    def call(
        self, path: Path, name: str, constants: dict[str, Any], values: dict[str, Any], size: int,
        rows: int = 1, grid: Shape | None = None, block: Shape | None = None, shared: int = 0,
        layer: Layer | None = None,
    ) -> None:  # fmt: skip
        """Launch a kernel of any file, with values by the names of its parameters."""
        if block is None:
            block = (min(THREADS, max(1, -(-size // 32)) * 32), 1, 1)
        if grid is None:
            across = -(-size // block[0])
            grid = (min(across, BLOCKS if rows == 1 else 2**31 - 1), min(rows, MOST_ROWS), 1)
        code = source.read(path)
        if (kernel := code.kernels.get(name)) is None:
            found = f"{short(str(path))} has no kernel {name}"
            raise _error(found, f'extern "C" __global__ void {name}(...)', layer)
        args, arrays = self._packed(kernel, constants, values, layer)
        if any(array.size >= WIDE for array in arrays):
            constants = {**constants, "WIDE": 1}
        key = path, code.text, tuple(sorted(constants.items()))
        if key not in self._functions:
            self._functions[key] = self.load(code, constants)
        if size and math.prod(grid):
            self.start(self._functions[key], kernel, grid, block, args, arrays, shared)

    def _packed(
        self, kernel: Kernel, constants: dict[str, Any], values: dict[str, Any], layer: Layer | None
    ) -> tuple[bytes, list[Array]]:
        """A kernel's arguments, each aligned to its size as CUDA wants it, and the arrays among them."""
        out, arrays = b"", []
        for parameter in kernel.parameters:
            if parameter.name not in values:
                found = f"{kernel.place}: {kernel} asks for {parameter.name!r}, which there is not"
                raise _error(found, f"there are: {', '.join(values)}", layer)
            value = values[parameter.name]
            if parameter.pointer:
                letter, wants = "P", source.element(parameter, constants)
                if value is not None:
                    if not hasattr(value, "dtype") or (wants is not None and value.dtype != wants):
                        given = f"an array of {value.dtype}" if hasattr(value, "dtype") else repr(value)
                        found = f"{kernel.place}: {kernel} expects {parameter}, found {given}"
                        raise _error(found, f"declare {parameter.name} by the type that the layer has", layer)
                    arrays.append(value)
                value = 0 if value is None or not value.size else self.address(value)
            else:
                letter = source.SCALARS[parameter.type]
                if not isinstance(value, (int, float, np.number, np.bool_)):
                    found = f"{kernel.place}: {kernel} expects a number for {parameter.name}, found an array"
                    raise _error(found, f"declare it as a pointer: const float *{parameter.name}", layer)
            out += b"\0" * (-len(out) % struct.calcsize(letter))
            try:
                out += struct.pack(letter, float(value) if letter in "fd" else int(value))
            except (struct.error, OverflowError):
                found = f"{kernel.place}: {kernel} takes {parameter}, and {value!r} does not fit"
                raise _error(found, "a wider type: long long", layer) from None
        return out, arrays

    # -- arithmetic -----------------------------------------------------------------------------------

    def call_own(
        self, stem: str, name: str, values: dict[str, Any], threads: int, rows: int = 1,
        constants: dict[str, Any] | None = None, grid: Shape | None = None, block: Shape | None = None,
    ) -> None:  # fmt: skip
        """Launch a kernel of minet's own that belongs to no layer: `name` of ``kernels/<stem>.cu``."""
        self.call(source.folder() / f"{stem}.cu", name, constants or {}, values, threads, rows, grid, block)

    def axpby(self, alpha: float, x: Array, beta: float, y: Array) -> None:
        values = {"x": x, "y": y, "alpha": alpha, "beta": beta, "size": y.size}
        self.call_own("identity", "axpby", values, y.size)

    def finite(self, array: Array) -> bool:
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
            self.call_own("gemm", "sum_rows", values, length, grid=(shares, down, 1), block=block)
            a, step, length = partial, shares, shares
        values = {"a": a, "step": step, "out": out, "rows": rows, "length": length, "beta": beta}
        self.call_own("gemm", "sum_rows", values, length, grid=(1, down, 1), block=block)

    def add_bias(self, y: Array, b: Array) -> None:
        rows, length = y.shape
        step = y.strides[0] // y.dtype.itemsize
        values = {"y": y, "step": step, "b": b, "rows": rows, "length": length}
        self.call_own("gemm", "add_bias", values, length, rows)

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
    """A thread for each element of an image: for how many in a row, and for how many rows."""
    C, H, W, N = image.shape
    return W * N, C * H


def _error(message: str, hint: str, layer: Any) -> KernelError:
    return KernelError(message, hint, layer=layer if isinstance(layer, Layer) else None)
