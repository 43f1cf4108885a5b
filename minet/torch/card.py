"""minet's kernels on PyTorch's tensors: its device, its current stream, its memory.

PyCUDA has no part in this: nvcc compiles the kernels, and the driver's calls, by ctypes, load and launch
them. Nothing here waits for the card but `get`, so PyTorch's CUDA graphs capture it all, once the kernels are
loaded.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minet.backends.cuda_graph import GraphError, call
from minet.backends.cuda_source import Kernel, Source
from minet.backends.cuda_toolkit import cubin, recipe
from minet.backends.gpu import GPU
from minet.backends.kernel_cache import Recipe
from minet.core.errors import MinetError
from minet.core.layer import Array, Shape
from minet.torch.card_array import CardArray, Offer, address, flat_bytes, native

BUFFER, SIZE, END = 1, 2, 0  # CU_LAUNCH_PARAM_*: kernels' arguments as one block of bytes
RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


class Card(GPU):
    """Kernels on a card that PyTorch computes on.

    Parameters
    ----------
    device : torch.device
        With its index.

    Raises
    ------
    MinetError
        At the first kernel, if nvcc is missing.
    """

    name = "cuda"

    def __init__(self, device: torch.device) -> None:
        super().__init__("float32", strict=False)
        self.device = device

    @cached_property
    def capability(self) -> tuple[int, int]:
        return torch.cuda.get_device_capability(self.device)

    @cached_property
    def device_name(self) -> str:
        return torch.cuda.get_device_name(self.device)

    # -- memory ---------------------------------------------------------------------------------------

    def empty(self, shape: Shape, dtype: Any = None) -> Any:
        kind = np.dtype(dtype or self.dtype)
        memory = torch.empty(math.prod(shape) * kind.itemsize, dtype=torch.uint8, device=self.device)
        return native(memory).view(kind).reshape(shape)

    def zeros(self, shape: Shape, dtype: Any = None) -> Any:
        out = self.empty(shape, dtype)
        self.fill(out, 0)
        return out

    def array(self, values: Any, dtype: Any = None) -> Any:
        wanted = np.dtype(dtype or self.dtype)
        if isinstance(values, CardArray) and values.dtype == wanted and values.flags.c_contiguous:
            return values
        host = np.ascontiguousarray(self.get(values), wanted)
        out = self.empty(host.shape, wanted)
        self.copy(host, out)
        return out

    def is_native(self, values: Any) -> bool:
        return isinstance(values, CardArray) and values.dtype == self.dtype and values.flags.c_contiguous

    def get(self, array: Any) -> np.ndarray:
        if not isinstance(array, CardArray):
            return np.asarray(array)
        if not array.size or not array.flags.c_contiguous:
            return np.asarray(self.tensor(array).cpu().numpy(), array.dtype)
        found: np.ndarray = self.tensor(flat_bytes(array)).cpu().numpy()
        return found.view(array.dtype).reshape(array.shape)

    def tensor(self, array: CardArray) -> torch.Tensor:
        """A tensor in the array's memory."""
        if not array.size:
            return torch.empty(array.shape, device=self.device)
        return torch.as_tensor(Offer(array), device=self.device)

    def copy(self, src: Any, dst: Array) -> None:
        if not dst.size:
            return
        if isinstance(src, CardArray) and src.dtype == dst.dtype and src.shape == dst.shape:
            source: Any = src
        else:
            source = np.empty(dst.shape, dst.dtype)
            np.copyto(source, self.get(src))
        if source.flags.c_contiguous and dst.flags.c_contiguous:  # any dtype, some of which PyTorch has not
            source, dst = flat_bytes(source), flat_bytes(dst)
        on_card = isinstance(source, CardArray)
        self.tensor(dst).copy_(self.tensor(source) if on_card else torch.from_numpy(source))

    def fill(self, array: Array, value: float) -> None:
        if array.size:
            self.tensor(array if value or not array.flags.c_contiguous else flat_bytes(array)).fill_(value)

    def address(self, array: Array) -> int:
        if not isinstance(array, CardArray):
            what = f"a kernel was given {type(array).__name__} in host memory"
            raise MinetError(what, "copy it to the device: be.array(...)")
        return address(array)

    def free_memory(self) -> int | None:
        return int(torch.cuda.mem_get_info(self.device)[0])

    # -- computation ----------------------------------------------------------------------------------

    def gemm(
        self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0, trans: str = "nn"
    ) -> None:
        """A product by PyTorch's own library: it follows `torch.backends.cuda.matmul`."""
        if not out.size:
            return
        left, right, result = self.tensor(a), self.tensor(b), self.tensor(out)
        left, right = (m.T if t == "t" else m for m, t in zip((left, right), trans, strict=True))
        torch.addmm(result, left, right, beta=beta, alpha=alpha, out=result)

    def recipe(self, code: Source, constants: dict[str, Any]) -> Recipe:
        return recipe(code, constants, self.capability)

    def load(self, code: Source, constants: dict[str, Any]) -> _Module:
        path = cubin(code, constants, self.capability)
        with self._reporting(f"loading {code.path.name}"):
            return _module(self.device.index, path, path.stat().st_mtime_ns)

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
        size = ctypes.c_size_t(len(args))
        given = ctypes.create_string_buffer(args, len(args))
        extra = (ctypes.c_void_p * 5)(BUFFER, ctypes.addressof(given), SIZE, ctypes.addressof(size), END)
        stream = ctypes.c_void_p(torch.cuda.current_stream(self.device).cuda_stream)
        with self._reporting(kernel.name):
            call("cuLaunchKernel", module.function(kernel.name), *grid, *block, shared, stream, None, extra)

    def _enter(self) -> None:
        """Make the device's context current in a thread that has none: the driver's calls need one."""
        found = ctypes.c_void_p()
        call("cuCtxGetCurrent", ctypes.byref(found))
        if not found:
            call("cuDevicePrimaryCtxRetain", ctypes.byref(found), self.device.index)
            call("cuCtxSetCurrent", found)

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Turn an error of the driver into one that says what failed."""
        try:
            self._enter()
            yield
        except GraphError as error:
            found = f"{what} failed on {self.device_name}: {error.message}"
            raise MinetError(found, "CUDA_LAUNCH_BLOCKING=1 shows whether an earlier kernel did") from error


@contextmanager
def _while_captured() -> Iterator[None]:
    """Let this thread load kernels while PyTorch captures: other addresses may need others than a warm-up."""
    mode = ctypes.c_int(RELAXED)
    call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    try:
        yield
    finally:
        call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))


class _Module:
    """A loaded cubin and its functions, each looked up once."""

    def __init__(self, code: bytes) -> None:
        self.handle, self._functions = ctypes.c_void_p(), dict[str, ctypes.c_void_p]()
        with _while_captured():
            call("cuModuleLoadData", ctypes.byref(self.handle), code)

    def function(self, name: str) -> ctypes.c_void_p:
        if name not in self._functions:
            found = ctypes.c_void_p()
            with _while_captured():
                call("cuModuleGetFunction", ctypes.byref(found), self.handle, name.encode())
            self._functions[name] = found
        return self._functions[name]


@cache
def _module(device: int, path: Path, changed: int) -> _Module:
    """The module in a cubin, loaded once for all of a device's backends."""
    return _Module(path.read_bytes())


@cache
def card(device: torch.device) -> Card:
    """The only backend of a device."""
    return Card(device)
