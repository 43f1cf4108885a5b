"""A kernel of any CUDA file, called as CuPy's: `RawKernel`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minet.backends import emulator
from minet.core.errors import MinetError
from minet.core.naming import near_to
from minet.emulator import guards, module, reading, sanitized, uninitialized
from minet.emulator.arguments import Arguments
from minet.emulator.description import Global, Parameter
from minet.emulator.launch import Run, Shape, check
from minet.emulator.module import Module
from minet.emulator.settings import Settings, checked, current, whole
from minet.emulator.source import Code


class RawKernel:
    """A CUDA kernel that runs on the CPU, with each of its memory accesses checked.

    It is compiled by g++ when it is first called or asked for something. Arrays are NumPy's. An error names
    the kernel, the line, the block and the thread; then the arrays are as they were before the call.

    Parameters
    ----------
    source : str or Path
        CUDA C++: its text, or a file's path. A text that is one line and ends in .cu or .cuh is a path.
    name : str
        The kernel: ``"add"``, ``"ns::add"``, or one of a template, ``"reduce<float, 32>"``.
    options : sequence of str
        The compiler's -D, -U, -I and -std.
    backend : {"emu"}
        Where it runs.

    Attributes
    ----------
    max_dynamic_shared_size_bytes : int
        The largest `shared_mem` beyond what every card allows.

    Raises
    ------
    MinetError
        If g++ is missing, or an option is none of these.
    """

    def __init__(
        self, source: str | Path, name: str, options: Sequence[str] = (), backend: str = "emu"
    ) -> None:
        if backend != "emu":
            found = f"a RawKernel runs on the backend emu, got {backend!r}"
            raise MinetError(found, "cupy.RawKernel is called in the same way, and runs on a GPU")
        if why := emulator.missing():
            raise MinetError(why, "apt install g++, or your system's package of it")
        is_file = isinstance(source, str) and "\n" not in source and source.endswith((".cu", ".cuh"))
        self.source: str | Path = Path(source) if is_file else source
        self.name = name.strip()
        self.options = module.options_of(tuple(options))
        self.settings = Settings()
        self.max_dynamic_shared_size_bytes = 0
        self._modules: dict[str, Module] = {}

    def __call__(
        self, grid: int | Sequence[int], block: int | Sequence[int], args: Sequence[Any], shared_mem: int = 0
    ) -> None:
        """Run the kernel.

        Parameters
        ----------
        grid, block : int or tuple of up to three
            Blocks, and threads of a block.
        args : tuple
            One for each parameter: a NumPy array for a pointer, or None for a null pointer; a list of arrays
            for a pointer to pointers; a number, converted to the declared type; a tuple for a vector such as
            float4; np.void, bytes or a ctypes structure for any other struct.
        shared_mem : int
            Bytes of ``extern __shared__`` memory.

        Raises
        ------
        MinetError
            If there is no such kernel, it cannot be compiled, an argument or a size does not fit, or the
            emulator finds a fault.
        """
        __tracebackhide__ = True  # pytest then shows the call
        shape = Shape(_three(grid, "grid"), _three(block, "block"), whole(shared_mem, "shared_mem"))
        settings = self.settings | current()
        found = self._module(self._kind())
        arguments = Arguments(self.name, found.parameters, args)
        check(self.name, found, shape, self.max_dynamic_shared_size_bytes)
        found.take(self._home())
        if settings.sanitize and not guards.here():
            ran = partial(self._ran, args, shape)
            uninitialized.check(self.name, self._code(), self.options, ran)
            sanitized.run(self._asked(shape), args, arguments, found.variables)
            self._home().take(found)
            return
        run = Run(self.name, found, arguments, shape, settings)
        try:
            run()
            for one in arguments.blocks:
                one.check(self.name)
        except MinetError:
            run.reset()
            raise
        self._home().take(found)
        for one in arguments.blocks:
            one.back()

    def _ran(self, args: Sequence[Any], shape: Shape, kind: str) -> Run:
        """A run of the kernel, compiled in another way; the caller's arrays stay as they are."""
        __tracebackhide__ = True
        found = self._module(kind)
        found.take(self._home())
        arguments, settings = Arguments(self.name, found.parameters, args), self.settings | current()
        run = Run(self.name, found, arguments, shape, settings, prints=False)
        run()
        return run

    def _asked(self, shape: Shape) -> dict[str, Any]:
        """What another process has to know to run it."""
        is_file, settings = isinstance(self.source, Path), self.settings | current()
        return {
            "source": str(self.source.absolute() if isinstance(self.source, Path) else self.source),
            "is_file": is_file, "name": self.name, "options": self.options, "order": settings.order,
            "allow": settings.allow, "most_branches": settings.most_branches, "block": shape.block,
            "dynamic": self.max_dynamic_shared_size_bytes, "grid": shape.grid, "shared": shape.shared,
        }  # fmt: skip

    def check(
        self, order: str | None = None, sanitize: bool | None = None, allow: Sequence[str] | None = None,
        most_branches: int | None = None, watch: bool | None = None,
    ) -> RawKernel:  # fmt: skip
        """The same kernel, run in another way: ``kernel.check(order="reversed")(grid, block, args)``.

        Parameters
        ----------
        order : {"forward", "reversed", "shuffled"}
            The order in which blocks run, and a block's threads between barriers. What is not given is as the
            marker of `minet.emulator.pytest` says, and without one forward, False, nothing, 2**30 and True.
        sanitize : bool
            Look for results that depend on uninitialised local variables; then run it under g++'s
            AddressSanitizer and UBSan, in a process of its own.
        allow : sequence of {"same_value_writes", "discarded_reads"}
            What is not to be an error: several threads that write the same value to one place, and reads of
            unwritten shared memory on whose value no result depends.
        most_branches : int
            Branches that a block's threads may take together before its loop counts as endless.
        watch : bool
            False: run it without a look at each access. It computes the same bits in less than half the time,
            but only barriers, endless loops and addresses that no memory has are noticed.

        Raises
        ------
        MinetError
            If one of them has another value.
        """
        other = object.__new__(RawKernel)
        other.__dict__.update(self.__dict__)
        other.settings = checked(order, sanitize, allow, most_branches, watch) | self.settings
        return other

    def compile(self) -> None:
        """Compile the kernel now, if it has not been."""
        self._module(self._kind())

    @property
    def parameters(self) -> list[Parameter]:
        """The kernel's parameters, as the compiler has them."""
        return self._home().parameters

    @property
    def variables(self) -> dict[str, Global]:
        """The file's ``__device__`` and ``__constant__`` variables, by their names."""
        return self._home().variables

    def get_global(self, name: str) -> np.ndarray:
        """A ``__device__`` or ``__constant__`` variable of the file, as an array that shares its memory.

        A kernel has variables of its own: another one of the same file does not see what it writes there.
        """
        known = self.variables
        if name not in known:
            near = near_to(name, known)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known) or 'none'}"
            raise MinetError(f"{self._code().name} has no __device__ or __constant__ variable {name}", hint)
        return known[name].array()

    def _code(self) -> Code:
        return reading.code(self.source, self.options, self.name)

    def _module(self, kind: str) -> Module:
        if kind not in self._modules:
            self._modules[kind] = module.load(self._code(), self.name, self.options, kind)
        return self._modules[kind]

    def _home(self) -> Module:
        """The module that was loaded first, whose variables are those of the kernel."""
        return next(iter(self._modules.values()), None) or self._module(self._kind())

    def _kind(self) -> str:
        if guards.here():
            return "sanitized"
        settings = self.settings | current()
        return "checked" if settings.watch or settings.sanitize else "unwatched"

    def __repr__(self) -> str:
        return f"RawKernel({self.name!r})"


def _three(sizes: int | Sequence[int], what: str) -> tuple[int, int, int]:
    """A grid or a block as three sizes."""
    given = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    if not 1 <= len(given) <= 3:
        raise MinetError(f"the {what} has one to three sizes, got {sizes!r}", f"{what}=(4, 2)")
    x, y, z = (*(whole(size, what) for size in given), 1, 1)[:3]
    return x, y, z
