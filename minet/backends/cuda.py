"""CUDA on PyCUDA: nvcc compiles the kernels, the driver runs them in minet's stream.

Importing PyCUDA already needs the driver, so nothing here imports it before a backend is made. The driver may
report a kernel's fault only at some later call, which is not to blame. So after a call that failed the driver
is asked once more: if that fails too, a kernel has killed the context.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from minet.backends.cuda_memory import CUDAMemory
from minet.backends.cuda_source import Kernel, Source
from minet.backends.cuda_toolkit import cubin, recipe, usable, with_context
from minet.backends.kernel_cache import Recipe
from minet.backends.repeated import Repeated
from minet.core.errors import MinetError
from minet.core.layer import Array, Shape
from minet.core.node import Node


class CUDA(CUDAMemory):
    """Kernels run on an NVIDIA GPU: the one that ``$CUDA_DEVICE`` selects, or the first available.

    If a PyCUDA context is already current, it is used; otherwise the device's primary one, which PyTorch and
    CuPy use too. Arrays are GPUArrays. The backend belongs to the thread that creates it.

    Parameters
    ----------
    **options
        ``strict``, ``sync`` and ``tf32`` of `minet.backends.gpu.GPU`.

    Raises
    ------
    MinetError
        If the driver, a device, PyCUDA or nvcc is missing.
    """

    name = "cuda"

    def __init__(self, dtype: str = "float32", **options: Any) -> None:
        super().__init__(dtype, **options)
        usable()
        self.use(with_context())
        device = self.drv.Context.get_device()
        self.device_name, self.capability = device.name(), device.compute_capability()
        self.tf32 = self.tf32 and self.capability >= (8, 0)  # older cards have no such tensor cores

    def wait(self, what: str = "synchronising") -> None:
        """Wait until everything launched has finished.

        Parameters
        ----------
        what : str
            The name of this call in errors.

        Raises
        ------
        MinetError
            If a kernel failed.
        """
        self._note("waits for the device")
        with self._reporting(what):
            self.drv.Context.synchronize()

    # -- computation ----------------------------------------------------------------------------------

    def gemm(
        self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0, trans: str = "nn"
    ) -> None:
        from minet.backends.cublas import handle

        try:
            handle(self.context, self.tf32, self.stream.handle).gemm(a, b, out, alpha, beta, trans)
        except MinetError:
            self.wait("a matrix product")  # cuBLAS may only have run into an earlier kernel's fault
            raise
        if self.sync:
            self.wait("a matrix product")
        if self.log is not None:
            places = ((int(m.gpudata), m.shape, m.strides) for m in (a, b, out))
            self.log.called("gemm", *places, alpha, beta, trans)

    def repeated(self, work: Callable[..., Any], nodes: Iterable[Node], clock: Any) -> Callable[..., Any]:
        return Repeated(self, work, nodes, clock)

    def recipe(self, code: Source, constants: dict[str, Any]) -> Recipe:
        return recipe(code, constants, self.capability)

    def load(self, code: Source, constants: dict[str, Any]) -> Module:
        path = cubin(code, constants, self.capability)
        with self._reporting(f"loading {code.path.name}"):
            return module(self.context, path, path.stat().st_mtime_ns)

    def start(
        self,
        module: Any,
        kernel: Kernel,
        grid: Shape,
        block: Shape,
        args: bytes,
        arrays: Any,
        shared: int = 0,
    ) -> None:
        with self._reporting(kernel.name):
            module.function(kernel.name)._launch_kernel(grid, block, args, shared, self.stream)
            if self.sync:
                self.drv.Context.synchronize()


class Module:
    """A loaded cubin and its functions, each looked up once."""

    def __init__(self, module: Any) -> None:
        self._module, self._functions = module, dict[str, Any]()

    def function(self, name: str) -> Any:
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        return self._functions[name]


@cache
def module(context: int, path: Path, changed: int) -> Module:
    """The module in a cubin, loaded once for all backends in a context."""
    return Module(importlib.import_module("pycuda.driver").module_from_buffer(path.read_bytes()))
