"""How a kernel of a .cu file is found, given its arguments by name, and launched."""

from __future__ import annotations

import math
import struct
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minet.backends import cuda_source
from minet.backends.base import Backend
from minet.backends.cuda_source import Kernel, Source
from minet.backends.kernel_cache import Recipe
from minet.core.layer import Array, Layer, Shape
from minet.core.naming import relative
from minet.core.node import LayerError, Node

THREADS = 256  # per block, unless a layer chooses
MOST_ROWS = 65535  # per grid; kernels stride over the rest
BLOCKS = 1 << 16  # per one-dimensional grid, likewise
WIDE = 2**30  # elements of an array; from here on kernels count in 64 bits
LONGEST = 2**30  # numbers in an image row; kernels with LANES count its bytes in 32 bits
IMAGES = ("x", "y", "dy", "dx")  # arguments of a layer's kernels that are (C, H, W, N)


class KernelError(LayerError):
    """A kernel that does not exist, that does not end, or that asks for something its layer does not have."""


class Step(int):
    """The training step as a kernel's argument, which changes when a captured step is replayed."""


class Launcher(Backend):
    """A backend that launches kernels of .cu files, reading each file once.

    Attributes
    ----------
    log : Log, optional
        Is told of each launch while it is there (`minet.backends.repeated`).
    """

    log: Any = None

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype)
        self._functions: dict[Any, Any] = {}
        self._files: dict[tuple[type, str], Path | None] = {}
        self._sources: dict[Path, Source] = {}

    # -- what a device adds ---------------------------------------------------------------------------

    @abstractmethod
    def recipe(self, code: Source, constants: dict[str, Any]) -> Recipe:
        """How `load` compiles the source: it may be compiled elsewhere before."""

    @abstractmethod
    def load(self, code: Source, constants: dict[str, Any]) -> Any:
        """Compile the source with these constants into a module."""

    @abstractmethod
    def start(
        self, module: Any, kernel: Kernel, grid: Shape, block: Shape, args: bytes, arrays: Any,
        shared: int = 0,
    ) -> None:  # fmt: skip
        """Launch a kernel of the module; `args` holds the addresses of `arrays`."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """The address of the array's first element."""

    def overlap(self, a: Array, b: Array) -> bool:
        start, other = self.address(a), self.address(b)
        return start < other + b.nbytes and other < start + a.nbytes

    # -- what a layer asks for ------------------------------------------------------------------------

    def launch(
        self, layer: Layer, name: str, size: int | None = None, rows: int = 1, *,
        grid: Shape | None = None, block: Shape | None = None, shared: int = 0,
        constants: dict[str, Any] | None = None, file: Path | None = None, **values: Any,
    ) -> None:  # fmt: skip
        """Launch a kernel of the layer's .cu files, or of a base class's.

        The kernel's parameters get their values by name: `values`; the layer's parameters (``a``) and their
        gradients (``da``); its state; the sizes C H W of its input, K P Q of its output, and N; the draw's
        ``key0 key1 step``, and ``first whole``, the samples' place in the whole batch; ``train``. None
        becomes a null pointer. The constants are the layer's. Its LANES, the samples that a thread takes at
        once, is a maximum: if the images do not allow it, LANES is 1.

        Parameters
        ----------
        size, rows : int
            Elements to compute: `size` along x in each of `rows` rows, a thread for LANES of them. Kernels
            stride over what the grid leaves out. Not needed if both grid and block are given.
        grid, block : tuple of int, optional
            Blocks and threads, if not the default ones.
        shared : int
            Bytes of the kernel's ``extern __shared__`` memory.
        constants : dict, optional
            Constants of this launch, on top of the layer's.
        file : Path, optional
            The kernel's .cu file, if it is none of the layer's class.

        Raises
        ------
        KernelError
            If the kernel asks for a name that does not exist, or for an array of another type; or if it draws
            and the samples are a part of a batch, but it does not ask which.
        """
        path = file or self.file_of(type(layer), name)
        if path is None:
            raise layer.error(f"has no kernel file for {name}", f"write {layer.stem()}.cu next to its file")
        (C, H, W), (K, P, Q) = layer.bound_shapes
        image = next(values[name] for name in ("x", "dy") if values.get(name) is not None)
        N = image.shape[-1]
        known = {
            "C": C, "H": H, "W": W, "K": K, "P": P, "Q": Q, "N": N,
            "key0": layer.key[0], "key1": layer.key[1], "step": Step(layer.clock.now),
            "first": 0, "whole": N, "train": layer.train,
        }  # fmt: skip
        known |= {f"d{n}": grad for n, grad in layer.g.items()} | dict(layer.p) | dict(layer.s) | values
        constants = {**layer.constants(), **(constants or {})}
        if layer.clock.part:
            constants |= self._of_part(path, name, layer, known, values)
        if most := constants.get("LANES"):
            own = (array for array in layer.s.values() if array.ndim == 4 and array.shape[-1] == known["N"])
            if (across := max(known["W"], known["Q"])) * known["N"] >= LONGEST:
                found = f"rows of {across} x {known['N']} numbers are too long"
                raise layer.error(found, "use a smaller batch")
            constants["LANES"] = self.lanes(most, *(values.get(name) for name in IMAGES), *own)
            size = size and -(-size // constants["LANES"])
        self.call(path, name, constants, known, size, rows, grid, block, shared, layer)

    def _of_part(
        self, path: Path, name: str, layer: Layer, known: dict[str, Any], values: dict[str, Any]
    ) -> dict[str, Any]:
        """Tell a kernel that draws which part of a batch it has; the constant that its file needs."""
        source = self.read(path)
        names = source.asked.get(name, frozenset())
        if names >= {"step", "first", "whole"}:
            # In evaluation nothing is drawn, and the batch may be another one.
            first, whole = layer.clock.samples(known["N"]) if layer.train else layer.clock.part
            known |= {"first": first, "whole": whole} | values
        elif "step" in names and "step" not in values:
            place = source.kernels[name].place
            found = f"{place}: {name} draws by its step alone, but has only a part of the batch"
            hint = "take int first, int whole; element i draws as in_whole(i, N, first, whole) of philox.cuh"
            raise _error(found, hint, layer)
        return {"PART": 1} if any(names >= {"first", "whole"} for names in source.asked.values()) else {}

    def file_of(self, cls: type, name: str) -> Path | None:
        """The file of a class or one of its bases that has the kernel; else the first that exists."""
        if (cls, name) not in self._files:
            files = [found for base in cls.__mro__ for found in cuda_source.files_of(base)]
            having = (file for file in files if name in self.read(file).kernels)
            self._files[cls, name] = next(having, files[0] if files else None)
        return self._files[cls, name]

    def read(self, path: Path) -> Source:
        """The source of a file, read once: a change is seen only by a new backend."""
        if path not in self._sources:
            self._sources[path] = cuda_source.read(path)
        return self._sources[path]

    def lanes(self, most: int, *images: Any) -> int:
        """Samples that a thread can read at once: `most` if N and all addresses are multiples, else 1."""
        given = [image for image in images if image is not None]
        fit = (i.shape[-1] % most == 0 and self.address(i) % (most * i.dtype.itemsize) == 0 for i in given)
        return most if all(fit) else 1

    def call(
        self, path: Path, name: str, constants: dict[str, Any], values: dict[str, Any],
        size: int | None = None, rows: int = 1, grid: Shape | None = None, block: Shape | None = None,
        shared: int = 0, node: Node | None = None,
    ) -> None:  # fmt: skip
        """Launch a kernel of any file, with values by parameter name."""
        if block is None or grid is None:
            if size is None:
                raise _error(f"the launch of {name} has no size", "pass size, or both grid and block", node)
            block = block or (min(THREADS, max(1, -(-size // 32)) * 32), 1, 1)
            across = min(-(-size // block[0]), BLOCKS if rows == 1 else 2**31 - 1)
            grid = grid or (across, min(rows, MOST_ROWS), 1)
        code = self.read(path)
        if (kernel := code.kernels.get(name)) is None:
            found = f"{relative(path)} has no kernel {name}"
            raise _error(found, f'extern "C" __global__ void {name}(...)', node)
        args, arrays, numbers = self._packed(kernel, constants, values, node)
        if any(array.size >= WIDE for array in arrays):
            constants = {**constants, "WIDE": 1}
        key = code.text, tuple(sorted(constants.items()))
        if key not in self._functions:
            self._functions[key] = self.load(code, constants)
        if math.prod(grid):
            self.start(self._functions[key], kernel, grid, block, args, arrays, shared)
            if self.log is not None:
                self.log.launched(self._functions[key], kernel, (grid, block, shared), numbers)

    def _packed(
        self, kernel: Kernel, constants: dict[str, Any], values: dict[str, Any], node: Node | None
    ) -> tuple[bytes, list[Array], list[Any]]:
        """A kernel's packed arguments, the arrays among them, and all of them as numbers."""
        numbers: list[Any] = []
        arrays = []
        for parameter in kernel.parameters:
            name = parameter.name
            if name not in values:
                found = f"{kernel.place}: {kernel} asks for {name!r}, which does not exist"
                raise _error(found, f"available: {', '.join(values)}", node)
            value = values[name]
            if not parameter.pointer:
                if not isinstance(value, (int, float, np.number, np.bool_)):
                    found = f"{kernel.place}: {kernel} expects a number for {name}, found an array"
                    raise _error(found, f"declare it as a pointer: const float *{name}", node)
            elif value is None:
                value = 0
            else:
                wanted, dtype = cuda_source.element(parameter, constants), getattr(value, "dtype", None)
                if dtype is None or (wanted is not None and dtype != wanted):
                    given = f"an array of {dtype}" if dtype is not None else repr(value)
                    found = f"{kernel.place}: {kernel} expects {parameter}, found {given}"
                    raise _error(found, f"declare {name} with the layer's type", node)
                arrays.append(value)
                value = self.address(value) if value.size else 0
            numbers.append(value)
        try:
            return kernel.layout.pack(*numbers), arrays, numbers
        except (struct.error, OverflowError):
            return kernel.layout.pack(*_fitting(kernel, numbers, node)), arrays, numbers


def _fitting(kernel: Kernel, numbers: list[Any], node: Node | None) -> Iterator[Any]:
    """The numbers converted to the parameters' types, or an error about the first that does not fit."""
    for parameter, number in zip(kernel.parameters, numbers, strict=True):
        letter = "P" if parameter.pointer else cuda_source.SCALARS[parameter.type]
        try:
            fit = float(number) if letter in "fd" else int(number)
            struct.pack(letter, fit)
        except (struct.error, OverflowError, ValueError):
            found = f"{kernel.place}: {kernel} takes {parameter}, but {number!r} does not fit"
            raise _error(found, "use a wider type, such as long long", node) from None
        yield fit


def _error(message: str, hint: str, node: Node | None) -> KernelError:
    return KernelError(message, hint, layer=node)
