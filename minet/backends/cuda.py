"""CUDA on PyCUDA: nvcc compiles the kernels, the driver runs them in its one default stream.

Importing PyCUDA already needs the driver, so nothing here imports it before a backend is made. The driver may
report a kernel's fault only at some later call, which is not to blame. So after a call that failed the driver
is asked once more: if that fails too, a kernel has killed the context.
"""

from __future__ import annotations

import importlib
import math
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minet.backends.cuda_source import Kernel, Source
from minet.backends.cuda_toolkit import cubin, usable, with_context
from minet.backends.gpu import GPU
from minet.core.blame import running_node
from minet.core.errors import MinetError
from minet.core.layer import Array, Shape
from minet.core.naming import mib

SMALL = 1 << 20  # bytes; the memory of arrays up to this size is kept for the next one of the same size
RESERVE = 64  # 1/RESERVE of the memory is kept back for kernels, cuBLAS and rounding up
EMULATE = "--backend emu checks each access and names the .cu line"


class CUDA(GPU):
    """Kernels run on an NVIDIA GPU: the one that ``$CUDA_DEVICE`` selects, or the first available.

    If a PyCUDA context is already current, it is used; otherwise the device's primary one, which PyTorch and
    CuPy use too. Arrays are GPUArrays. The backend belongs to the thread that creates it.

    Parameters
    ----------
    tf32 : bool
        Let matrix products round their factors to the 11 bits of TF32, for speed.
    **options
        ``strict`` and ``sync`` of `minet.backends.gpu.GPU`.

    Raises
    ------
    MinetError
        If the driver, a device, PyCUDA or nvcc is missing.
    """

    name = "cuda"

    def __init__(self, dtype: str = "float32", *, tf32: bool = False, **options: Any) -> None:
        super().__init__(dtype, **options)
        usable()
        self.drv = with_context()
        self.tf32 = tf32
        self.context: int = self.drv.Context.get_current().handle
        device = self.drv.Context.get_device()
        self.device_name, self.capability = device.name(), device.compute_capability()
        self._GPUArray = importlib.import_module("pycuda.gpuarray").GPUArray
        self._shelf = shelf(self.context)

    # -- memory ---------------------------------------------------------------------------------------

    def empty(self, shape: Shape, dtype: Any = None) -> Array:
        return self._made(shape, np.dtype(dtype or self.dtype), passing=False)

    def _made(self, shape: Shape, dtype: np.dtype, passing: bool) -> Array:
        size = math.prod(shape) * dtype.itemsize
        if not size:  # address 0: without an address PyCUDA makes no views
            return self._GPUArray(shape, dtype, gpudata=0)
        if not passing and size > SMALL:
            return self._GPUArray(shape, dtype, gpudata=self._allocated(size))
        kept = next((one for one in self._shelf.copy() if one[0] == size), None)  # garbage joins it any time
        if kept and kept in self._shelf.copy():
            self._shelf.remove(kept)
        lent = Lent(self._shelf, size, kept[1] if kept else self._allocated(size))
        return self._GPUArray(shape, dtype, gpudata=int(lent.memory), base=lent)

    def _allocated(self, size: int) -> Any:
        try:
            return self.drv.mem_alloc(size)
        except self.drv.MemoryError as error:
            if self._shelf:
                self._shelf.clear()
                return self._allocated(size)
            free, total = self.drv.mem_get_info()
            found = f"out of device memory: {mib(size)} requested, {mib(free)} of {mib(total)} free"
            hint = "use a smaller batch; nvidia-smi shows what else uses the memory"
            raise _error(f"{found} on {self.device_name}", hint) from error
        except self.drv.Error as error:
            raise self._failed("an allocation", error) from error

    def zeros(self, shape: Shape, dtype: Any = None) -> Array:
        out = self.empty(shape, dtype)
        self.fill(out, 0)
        return out

    def array(self, values: Any, dtype: Any = None) -> Array:
        """A native C-contiguous array of the values; no copy if they already are one.

        Anything with a ``__cuda_array_interface__`` that is C-contiguous and of the requested dtype is used
        in place, and kept alive as long as the array.
        """
        wanted, found = np.dtype(dtype or self.dtype), self._native(values)
        if found is not None and found.dtype == wanted and found.flags.c_contiguous:
            return found
        host = np.ascontiguousarray(values if found is None else self.get(found), wanted)
        out = self._made(host.shape, wanted, passing=True)
        self.copy(host, out)
        return out

    def is_native(self, values: Any) -> bool:
        found = self._native(values)
        return found is not None and found.dtype == self.dtype and found.flags.c_contiguous

    def _native(self, values: Any) -> Array | None:
        """The values as a GPUArray on the same memory; None if they are in host memory."""
        if isinstance(values, self._GPUArray):
            return values
        offer = getattr(values, "__cuda_array_interface__", None)
        if offer is None:
            return None
        if offer.get("mask") is not None:
            raise MinetError(
                f"a masked array cannot be used: {type(values).__name__}", "fill in the masked elements"
            )
        if offer.get("stream") not in (None, 1):  # another stream may still be writing there
            self.wait("waiting for an array's stream")
        strides = offer.get("strides")
        return self._GPUArray(
            tuple(offer["shape"]), np.dtype(offer["typestr"]), gpudata=offer["data"][0] or 0, base=values,
            strides=None if strides is None else tuple(strides),
        )  # fmt: skip

    def get(self, array: Array) -> np.ndarray:
        found = self._native(array)
        if found is None:
            return np.asarray(array)
        with self._reporting("reading an array"):
            return found.get()

    def copy(self, src: Any, dst: Array) -> None:
        if not dst.size:
            return
        found = self._native(src)
        if found is None or found.dtype != dst.dtype or found.shape != dst.shape:
            host = src if found is None else self.get(found)
            found = np.empty(dst.shape, dst.dtype)
            np.copyto(found, host)
        with self._reporting("copying an array"):
            dst[...] = found

    def fill(self, array: Array, value: float) -> None:
        if not array.size:
            return
        if not array.flags.c_contiguous:
            raise MinetError(f"fill needs a C-contiguous array, got strides {array.strides}")
        item, at = np.full(1, value, array.dtype).tobytes(), self.address(array)
        with self._reporting("filling an array"):
            if len(set(item)) == 1:
                self.drv.memset_d8(at, item[0], array.nbytes)
            elif len(item) == 2:
                self.drv.memset_d16(at, struct.unpack("H", item)[0], array.size)
            elif len(item) == 4:
                self.drv.memset_d32(at, struct.unpack("I", item)[0], array.size)
            else:  # larger items: one word at a time, as a column
                for i, (word,) in enumerate(struct.iter_unpack("I", item)):
                    self.drv.memset_d2d32(at + 4 * i, len(item), word, 1, array.size)

    def free_memory(self) -> int:
        self._shelf.clear()
        with self._reporting("querying the free memory"):
            free, total = self.drv.mem_get_info()
        return max(0, free - total // RESERVE)

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
        with self._reporting(what):
            self.drv.Context.synchronize()

    # -- computation ----------------------------------------------------------------------------------

    def gemm(
        self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0, trans: str = "nn"
    ) -> None:
        from minet.backends.cublas import handle

        try:
            handle(self.context, self.tf32).gemm(a, b, out, alpha, beta, trans)
        except MinetError:
            self.wait("a matrix product")  # cuBLAS may only have run into an earlier kernel's fault
            raise
        if self.sync:
            self.wait("a matrix product")

    def address(self, array: Array) -> int:
        found = self._native(array)
        if found is None:
            what = f"a kernel was given {type(array).__name__} in host memory"
            raise MinetError(what, "copy it to the device: be.array(...)")
        return int(found.gpudata)

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
            module.function(kernel.name)._launch_kernel(grid, block, args, shared, None)
            if self.sync:
                self.drv.Context.synchronize()

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Turn a driver error into a MinetError about this call, or about an earlier kernel."""
        try:
            yield
        except self.drv.Error as error:
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: Exception) -> MinetError:
        reason = (str(error).partition(" failed: ")[2] or str(error)).rstrip(" -")
        try:
            self.drv.Context.synchronize()
        except self.drv.Error:
            if not self.sync:
                found = f"a kernel launched earlier failed on {self.device_name}: {reason}"
                hint = "--sync waits for each kernel and shows which one fails"
                return MinetError(f"{found}; it only showed up in {what}", hint)
            return _error(f"{what} failed on {self.device_name}: {reason}", EMULATE)
        hint = "use fewer threads per block, or fewer registers: __launch_bounds__"
        return _error(f"{what} failed on {self.device_name}: {reason}", hint if "resources" in reason else "")


class Lent:
    """Memory that goes back to its shelf when nothing uses it any more."""

    def __init__(self, shelf: deque[tuple[int, Any]], size: int, memory: Any) -> None:
        self.shelf, self.size, self.memory = shelf, size, memory

    def __del__(self) -> None:
        self.shelf.append((self.size, self.memory))


class Module:
    """A loaded cubin and its functions, each looked up once."""

    def __init__(self, module: Any) -> None:
        self._module, self._functions = module, dict[str, Any]()

    def function(self, name: str) -> Any:
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        return self._functions[name]


@cache
def shelf(context: int) -> deque[tuple[int, Any]]:
    """Unused memory of a context, with its sizes, kept for its next use.

    Freeing it would wait for the device, and much of it is needed again at the next step.
    """
    return deque(maxlen=32)


@cache
def module(context: int, path: Path, changed: int) -> Module:
    """The module in a cubin, loaded once for all backends in a context."""
    return Module(importlib.import_module("pycuda.driver").module_from_buffer(path.read_bytes()))


def _error(message: str, hint: str) -> MinetError:
    layer = running_node()
    return layer.error(message, hint) if layer else MinetError(message, hint)
