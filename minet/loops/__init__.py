"""The hot loops in Numba, one file for each layer, named by its stem. README.md has the conventions."""

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

# Idle OpenMP threads spin for a fraction of a millisecond, from one layer's kernel to the next: to wake one
# takes longer than a small kernel. Then they sleep: spinning ones keep the cores from the thread that reads
# data, and from BLAS, where a layer multiplies in NumPy. Read when Numba starts its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# contract: fused multiply-add; reassoc: sums along N in SIMD lanes; nsz, arcp: cheap and harmless. Not nnan
# or ninf: a NaN must come out as a NaN. The order of a sum is fixed at compile time, so bits repeat.
MATH = {"contract", "reassoc", "nsz", "arcp"}

kernel: Any = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath=MATH)
parallel_kernel: Any = partial(kernel, parallel=True)
intrinsic: Any = extending.intrinsic  # whose functions are called without their first parameter


@kernel()
def scratch(size, like):
    """Uninitialised memory from a cache line on: SIMD loads that straddle two take half as long again."""
    raw = np.empty(size + LINE, like.dtype)
    start = (-raw.ctypes.data) % LINE // raw.itemsize
    return raw[start : start + size]


buffers = threading.local()


def workspace(size, dtype, shared=(0,)):
    """Memory that all share, of that shape; and of a size for each worker, from a cache line on.

    It is kept: fresh pages cost more than their use.
    """
    workers, size, together = get_num_threads(), -(-size // LINE) * LINE, math.prod(shared)
    own = workers * size
    need = (own + together) * dtype.itemsize
    if len(getattr(buffers, "memory", b"")) < need:
        buffers.memory = aligned((need,), np.dtype(np.uint8))
    memory = buffers.memory[:need].view(dtype)
    return memory[own:].reshape(shared), memory[:own].reshape(workers, size), workers


# What kernels of other files inline.
SHARED = (
    "__init__.py",
    "arithmetic.py",
    "conv/gemm.py",
    "conv/pack.py",
    "conv/winograd.py",
    "philox.py",
    "simd/lanes.py",
    "simd/select.py",
    "simd/rows.py",
    "simd/tile.py",
    "window.py",
)


def forget_stale(folder: Path) -> None:
    """Drop compiled kernels that are older than the code they share, of which Numba's cache knows nothing."""
    newest = max((folder / name).stat().st_mtime for name in SHARED)
    with contextlib.suppress(OSError):
        for index in folder.rglob("__pycache__/*.nbi"):
            if index.stat().st_mtime < newest:
                index.unlink(missing_ok=True)


forget_stale(Path(__file__).parent)
