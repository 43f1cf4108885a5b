"""The hot loops in Numba, one file per layer, named by its stem; README.md has the conventions."""

import contextlib
import math
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import extending, get_num_threads, njit

from minet.core.memory import LINE, aligned
from minet.loops import cache
from minet.loops.threads import guarded

# Idle OpenMP threads spin for a fraction of a millisecond, from one layer's kernel to the next: waking one
# takes longer than a small kernel. Then they sleep, so that they do not keep cores from the thread that reads
# data, and from BLAS, where a layer multiplies in NumPy. Numba reads these when it starts its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Fused multiply-adds, and nothing that reorders: what LLVM reorders differs between the process that
# compiles a kernel and those that load it from the cache. Sums along SIMD lanes are in simd/sums.py.
MATH = {"contract"}

compiled: Any = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath=MATH)
intrinsic: Any = extending.intrinsic  # its functions are called without their first parameter


def kernel(function: Any = None, **options: Any) -> Any:
    """Decorate a function that Numba compiles, once per machine."""
    if function is None:
        return partial(kernel, **options)
    try:
        return compiled(**options)(function)
    except RuntimeError as error:
        if "no locator" not in str(error):  # that is: Numba finds no folder for its cache
            raise
        cache.use_temporary()
        return compiled(**options)(function)


def parallel_kernel(function: Any = None, **options: Any) -> Any:
    """Decorate a kernel whose ``prange`` loops run on all threads."""
    if function is None:
        return partial(parallel_kernel, **options)
    return guarded(kernel(parallel=True, **options)(function))


@kernel()
def scratch(size, like):
    """Return uninitialised memory from a cache line on: SIMD loads across two take half as long again."""
    raw = np.empty(size + LINE, like.dtype)
    start = (-raw.ctypes.data) % LINE // raw.itemsize
    return raw[start : start + size]


buffers = threading.local()


def workspace(size, dtype, shared=(0,)):
    """Return memory of shape `shared` for all workers, `size` aligned elements for each, and their number.

    The memory is kept for the next call: fresh pages cost more than their use.
    """
    workers, size, together = get_num_threads(), -(-size // LINE) * LINE, math.prod(shared)
    own = workers * size
    need = (own + together) * dtype.itemsize
    if len(getattr(buffers, "memory", b"")) < need:
        buffers.memory = aligned((need,), np.dtype(np.uint8))
    memory = buffers.memory[:need].view(dtype)
    return memory[own:].reshape(shared), memory[:own].reshape(workers, size), workers


# Files with code that kernels of other files inline.
SHARED = (
    "__init__.py",
    "arithmetic.py",
    "conv/gemm.py",
    "conv/pack.py",
    "conv/winograd.py",
    "gaussian_pool.py",
    "philox.py",
    "simd/functions.py",
    "simd/lanes.py",
    "simd/select.py",
    "simd/sums.py",
    "simd/rows.py",
    "simd/tile.py",
    "window.py",
)


def forget_stale(folder: Path, shared: Path | None = None) -> None:
    """Delete a folder's compiled kernels that are older than the shared code, in `shared` or there as well.

    Numba's cache does not notice its changes.
    """
    newest = max(((shared or folder) / name).stat().st_mtime for name in SHARED)
    with contextlib.suppress(OSError):
        for index in folder.rglob("__pycache__/*.nbi"):
            if index.stat().st_mtime < newest:
                index.unlink(missing_ok=True)


forget_stale(Path(__file__).parent)
