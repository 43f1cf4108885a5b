"""Numba's threads: which layer runs them, and what that layer cannot do.

GNU's OpenMP ends a forked process that uses its threads again; Numba's own workqueue ends a process in which
two threads start kernels at once. So kernels are refused after a fork, and with workqueue take turns.
"""

import importlib
import os
import sys
import threading
from typing import Any

from numba import config

from minet.core.errors import MinetError

MODULES = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}
KINDS = {  # as Numba reads them
    "safe": ["tbb"],
    "threadsafe": ["tbb", "omp"],
    "forksafe": ["tbb", "workqueue"] if sys.platform.startswith("linux") else ["tbb", "omp", "workqueue"],
}
guarded_kernels: list[Any] = []
turn = threading.RLock()


def threading_layer() -> str:
    """Return the layer that Numba will use: the one asked for, or else the first of its list that loads."""
    settings: Any = config
    wanted = str(settings.THREADING_LAYER).lower()
    usual: list[str] = settings.THREADING_LAYER_PRIORITY
    for name in [wanted] if wanted in MODULES else KINDS.get(wanted, usual):
        try:
            importlib.import_module(f"numba.np.ufunc.{MODULES[name]}")
        except ImportError:
            continue
        return str(name)
    raise ImportError(f"none of Numba's threading layers loads (NUMBA_THREADING_LAYER={wanted})")


LAYER = threading_layer()


class TakingTurns:
    """A kernel that one thread at a time may call; all else is the kernel's own."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __call__(self, *args: Any) -> Any:
        with turn:
            return self._kernel(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)


def guarded(kernel: Any) -> Any:
    """Return a kernel that runs in parallel, made safe for the layer that will run it."""
    guarded_kernels.append(kernel)
    return TakingTurns(kernel) if LAYER == "workqueue" else kernel


def refuse(*args: Any) -> Any:
    """Take the place of what Numba calls to find a kernel's machine code."""
    raise MinetError(
        "this process was forked after kernels had run: it has none of the threads that they need",
        'start workers with multiprocessing.get_context("spawn"), or fork before the first kernel',
    )


def after_fork() -> None:
    """In a forked process, let each parallel kernel raise an error, if the threads had been started."""
    if importlib.import_module("numba.np.ufunc.parallel")._is_initialized and LAYER != "tbb":
        for kernel in guarded_kernels:
            kernel._reset_overloads()
            kernel._compile_for_args = refuse


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)
