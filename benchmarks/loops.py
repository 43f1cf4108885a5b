"""Loops that only move memory, to know how fast it can be moved."""

from __future__ import annotations

from numba import njit, prange


@njit(parallel=True, cache=True, fastmath=True)
def copy(src, dst):
    """``dst <- src``, on arrays of one axis."""
    for i in prange(len(src)):
        dst[i] = src[i]
