"""What AddressSanitizer is told of memory, in a process that has it."""

from __future__ import annotations

import ctypes
import os


def here() -> bool:
    """Whether this process has the sanitizers."""
    return bool(os.environ.get("MINET_EMULATOR_SANITIZE"))


def guard(start: int, end: int) -> None:
    """Tell AddressSanitizer, if this process has it, that nothing may be accessed from `start` to `end`."""
    if here():
        poison = ctypes.CDLL(None).__asan_poison_memory_region
        poison(ctypes.c_void_p(start), ctypes.c_size_t(end - start))


def unguard(start: int, end: int) -> None:
    """Take that back, before the memory is given to something else: only where `here`."""
    allow = ctypes.CDLL(None).__asan_unpoison_memory_region
    allow(ctypes.c_void_p(start), ctypes.c_size_t(end - start))
