"""Where the numbers live: `get("cpu")`. What a backend needs is imported when it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.backends.base import Backend
from minet.errors import MinetError

__all__ = ["NAMES", "Backend", "get", "missing"]

NAMES = ("auto", "cpu")
PLANNED = ("cuda", "emu")  # CUDA kernels on a GPU, and the same on an emulator


def missing(name: str) -> str:
    """Why the backend `name` cannot be used here; empty if it can."""
    if name in PLANNED:
        return f"the backend {name!r} is not part of this version"
    return "" if name in NAMES else f"there is no backend {name!r}"


def get(name: str, dtype: Any = "float32") -> Backend:
    """The backend called `name`, computing in `dtype`: float32 or float64, by name or as NumPy's type."""
    try:
        kind = np.dtype(dtype).name
    except TypeError:
        kind = ""
    if kind not in ("float32", "float64"):
        raise MinetError(f"dtype must be float32 or float64, got {dtype!r}")
    if why := missing(name):
        raise MinetError(why, f"the backends are: {', '.join(NAMES)}")
    from minet.backends.cpu import CPU

    return CPU(kind)
