"""Arrays on a card: PyCUDA's GPUArrays, in memory that is lent again, filled and copied in one stream.

The stream is minet's own, one for each context, so that what runs in it can be captured. It is of the
blocking kind: the driver orders it with its default stream, which other code in the process may use.
"""

from __future__ import annotations

import importlib
import math
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np

from minet.backends import cuda_graph
from minet.backends.gpu import GPU
from minet.backends.page_locked import STAGED, PageLocked, page_locked
from minet.core.blame import running_node
from minet.core.errors import MinetError
from minet.core.layer import Array, Shape
from minet.core.naming import mib

SMALL = 1 << 20  # bytes; the memory of arrays up to this size is kept for the next one of the same size
RESERVE = 64  # 1/RESERVE of the memory is kept back for kernels, cuBLAS and rounding up
EMULATE = "--backend emu checks each access and names the .cu line"


class CUDAMemory(GPU):
    """The memory of the cuda backend, in the current context."""

    drv: Any  # pycuda.driver
    context: int
    device_name: str
    _locked: PageLocked

    def use(self, drv: Any) -> None:
        """Work in the current context."""
        self.drv = drv
        self.context = drv.Context.get_current().handle
        self._GPUArray = importlib.import_module("pycuda.gpuarray").GPUArray
        self._discontiguous = importlib.import_module("pycuda.gpuarray")._memcpy_discontig
        self._shelf, self.stream = shelf(self.context), stream(self.context)
        self._locked = page_locked(self.context, self.stream)

    def empty(self, shape: Shape, dtype: Any = None) -> Array:
        return self._made(shape, np.dtype(dtype or self.dtype), passing=False)

    def _made(self, shape: Shape, dtype: np.dtype, passing: bool) -> Array:
        size = math.prod(shape) * dtype.itemsize
        if not size:  # address 0: without an address PyCUDA makes no views
            return self._GPUArray(shape, dtype, gpudata=0)
        if not passing and size > SMALL:
            self._note(f"allocates {mib(size)}")
            return self._GPUArray(shape, dtype, gpudata=self._allocated(size))
        # Garbage joins the shelf any time. The lowest address: each step finds an array where the last did.
        kept = min((one for one in self._shelf.copy() if one[0] == size), key=_address, default=None)
        if kept:
            with suppress(ValueError):  # garbage that joined since may have pushed it out
                self._shelf.remove(kept)
        lent = Lent(self._shelf, size, kept[1] if kept else self._allocated(size))
        if self.log is not None:
            self.log.lent(lent)
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
        if self.log is None or not self.log.given(values, out):
            self.copy(host, out)
        elif not self.log.capturing:  # else the replay copies them
            self._copy_from_host(host, out)
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
            self._note("waits for the stream of an array")
            cuda_graph.wait_for(offer["stream"], self.stream.handle)
        strides = offer.get("strides")
        return self._GPUArray(
            tuple(offer["shape"]), np.dtype(offer["typestr"]), gpudata=offer["data"][0] or 0, base=values,
            strides=None if strides is None else tuple(strides),
        )  # fmt: skip

    def get(self, array: Array) -> np.ndarray:
        found = self._native(array)
        if found is None:
            return np.asarray(array)
        self._note("reads an array on the host")
        with self._reporting("reading an array"):
            return found.get()  # in the default stream, which waits for ours

    def later(self, array: Array) -> Callable[[], np.ndarray]:
        shape, dtype = array.shape, array.dtype
        with self._reporting("reading an array"):
            place = locked, event = self._locked.small()
            here = locked[: array.nbytes]
            self.drv.memcpy_dtoh_async(here, self.address(array), self.stream)
            event.record(self.stream)

        def values() -> np.ndarray:
            with self._reporting("waiting for a step"):
                event.synchronize()
            found = here.view(dtype).reshape(shape).copy()
            self._locked.give_back(place)
            return found

        return values

    def copy(self, src: Any, dst: Array) -> None:
        if not dst.size:
            return
        found = self._native(src)
        if found is None or found.dtype != dst.dtype or found.shape != dst.shape:
            host = src if found is None else self.get(found)
            found = np.empty(dst.shape, dst.dtype)
            np.copyto(found, host)
        if isinstance(found, np.ndarray):
            self._note("copies an array from the host")
            self._copy_from_host(found, dst)
            return
        with self._reporting("copying an array"):
            if dst.flags.c_contiguous and found.flags.c_contiguous:
                self.drv.memcpy_dtod_async(int(dst.gpudata), int(found.gpudata), dst.nbytes, self.stream)
            else:
                self._discontiguous(dst, found, async_=True, stream=self.stream)
        if self.log is not None:
            places = ((int(a.gpudata), a.strides, a.dtype) for a in (found, dst))
            self.log.called("copy", dst.shape, *places)

    def _copy_from_host(self, values: np.ndarray, dst: Array) -> None:
        """Copy an array, which may then change; large ones without waiting for the queue."""
        with self._reporting("copying an array"):
            if not dst.flags.c_contiguous:
                self._discontiguous(dst, values, async_=True, stream=self.stream)
                self.stream.synchronize()
            elif not STAGED[0] <= dst.nbytes <= STAGED[1]:
                self.drv.memcpy_htod_async(int(dst.gpudata), values, self.stream)
            else:
                self._locked.copy(values, int(dst.gpudata))

    def fill(self, array: Array, value: float) -> None:
        if not array.size:
            return
        if not array.flags.c_contiguous:
            raise MinetError(f"fill needs a C-contiguous array, got strides {array.strides}")
        item, at = np.full(1, value, array.dtype).tobytes(), self.address(array)
        with self._reporting("filling an array"):
            if len(set(item)) == 1:
                self.drv.memset_d8_async(at, item[0], array.nbytes, self.stream)
            elif len(item) == 2:
                self.drv.memset_d16_async(at, struct.unpack("H", item)[0], array.size, self.stream)
            elif len(item) == 4:
                self.drv.memset_d32_async(at, struct.unpack("I", item)[0], array.size, self.stream)
            else:  # larger items: one word at a time, as a column
                for i, (word,) in enumerate(struct.iter_unpack("I", item)):
                    self.drv.memset_d2d32_async(at + 4 * i, len(item), word, 1, array.size, self.stream)
        if self.log is not None:
            self.log.called("fill", at, array.nbytes, item)

    def free_memory(self) -> int:
        self._shelf.clear()
        with self._reporting("querying the free memory"):
            free, total = self.drv.mem_get_info()
        return max(0, free - total // RESERVE)

    def address(self, array: Array) -> int:
        found = self._native(array)
        if found is None:
            what = f"a kernel was given {type(array).__name__} in host memory"
            raise MinetError(what, "copy it to the device: be.array(...)")
        return int(found.gpudata)

    def _note(self, what: str) -> None:
        """Tell the log, if there is one, what keeps a step from being captured."""
        if self.log is not None:
            self.log.refuse(what)

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


def _address(kept: tuple[int, Any]) -> int:
    return int(kept[1])


@cache
def shelf(context: int) -> deque[tuple[int, Any]]:
    """Unused memory of a context, with its sizes, kept for its next use.

    Freeing it would wait for the device, and much of it is needed again at the next step.
    """
    return deque(maxlen=32)


@cache
def stream(context: int) -> Any:
    """The stream in which minet works in a context."""
    return importlib.import_module("pycuda.driver").Stream()


def _error(message: str, hint: str) -> MinetError:
    layer = running_node()
    return layer.error(message, hint) if layer else MinetError(message, hint)
