"""A loop that only moves memory, to measure how fast it can be moved."""

from __future__ import annotations

from typing import Any

from numba import njit, prange


@njit(parallel=True, cache=True, fastmath=True)
def copy(src: Any, dst: Any) -> None:
    """Compute ``dst <- src`` on one-dimensional arrays."""
    for i in prange(len(src)):
        dst[i] = src[i]
