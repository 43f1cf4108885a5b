"""Backends by name: `get("cpu")`. What a backend needs is imported only when it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.backends.base import Backend
from minet.core.errors import MinetError

__all__ = ["NAMES", "Backend", "get", "missing"]

NAMES = ("auto", "cpu", "cuda", "emu")  # emu runs cuda's kernels on the cpu, to test them


def missing(name: str) -> str:
    """The reason the backend `name` cannot be used here; empty if it can."""
    if name == "emu":
        from minet.backends import emulator

        return emulator.missing()
    if name == "cuda":
        from minet.backends import cuda_toolkit

        return cuda_toolkit.missing()
    return "" if name in NAMES else f"there is no backend {name!r}"


def get(name: str | Backend, dtype: Any = "float32", **options: Any) -> Backend:
    """A backend by name, computing in `dtype`: float32, or on the cpu also float64.

    Parameters
    ----------
    name : str or Backend
        "cpu", "cuda", "emu", or "auto": cuda if it works here, else cpu. A Backend is returned as it is.
    dtype : str or dtype
    **options
        For GPU backends, ``strict=True`` refuses layers without a kernel, ``sync=True`` waits for each
        kernel, and ``tf32=True`` rounds the factors of products to TF32 (`minet.backends.gpu.GPU`). For the
        emulator, ``order`` and ``checked`` (`minet.backends.emulator.Emulator`).
    """
    if isinstance(name, Backend):
        return name
    try:
        kind = np.dtype(dtype).name
    except TypeError:
        kind = ""
    if kind not in ("float32", "float64"):
        raise MinetError(f"dtype must be float32 or float64, got {dtype!r}")
    if name == "auto":
        name = "cuda" if kind == "float32" and not missing("cuda") and not _no_blas() else "cpu"
    if name == "cuda":
        from minet.backends.cuda import CUDA

        return CUDA(kind, **options)
    if why := missing(name):
        raise MinetError(why, "" if name in NAMES else f"the backends are: {', '.join(NAMES)}")
    if name == "emu":
        from minet.backends.emulator import Emulator

        return Emulator(kind, **options)
    from minet.backends.cpu import CPU

    return CPU(kind)


def _no_blas() -> str:
    from minet.backends import cublas

    return cublas.missing()
