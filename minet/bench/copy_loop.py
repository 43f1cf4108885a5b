"""Loops that only move memory, to know how fast it can be moved."""

from __future__ import annotations

from typing import Any

from numba import njit, prange


@njit(parallel=True, cache=True, fastmath=True)
def copy(src: Any, dst: Any) -> None:
    """``dst <- src``, on arrays of one axis."""
    for i in prange(len(src)):
        dst[i] = src[i]
