"""Arrays between pages that nobody may touch: a loop that runs past one ends its process at once.

Otherwise it overwrites whatever comes next in memory, and the process may wait or loop forever.
"""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

from minet.core import memory

GUARD = 1 << 20  # bytes before and after an array; they take addresses, but no memory
NO_ACCESS = 0  # PROT_NONE, which the module mmap lacks


def put() -> None:
    """From now on, put guard pages around every array that a host backend makes.

    As an array begins on a cache line, up to 63 bytes may lie between its end and the guard.
    """
    memory.new_bytes = new_bytes


def around(array: np.ndarray) -> np.ndarray:
    """The same values between guard pages, if they are put."""
    if memory.new_bytes is not new_bytes:
        return array
    guarded = memory.aligned(array.shape, array.dtype)
    guarded[...] = array
    return guarded


def new_bytes(size: int) -> np.ndarray:
    """Bytes that end where a guard begins; without guards where the system has none, or no more of them."""
    room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        whole = np.frombuffer(mmap.mmap(-1, GUARD + room + GUARD, flags=mmap.MAP_PRIVATE), np.uint8)
        protect = ctypes.CDLL(None).mprotect
    except (AttributeError, OSError, TypeError, ValueError):
        return np.empty(size, np.uint8)
    for start in (0, GUARD + room):
        protect(ctypes.c_void_p(whole.ctypes.data + start), ctypes.c_size_t(GUARD), NO_ACCESS)
    return whole[GUARD + room - size : GUARD + room]
