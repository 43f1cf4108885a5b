"""Random numbers by counter: the same (seed, layer, step, element) gives the same bits everywhere.

Two users. Initialisers draw from NumPy's Philox generator, keyed by (seed, crc32 of the parameter's path).
Layers that draw while they run call Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011; constants as in Random123), in Numba in ``kernels/philox.py`` and in CUDA in
``kernels/philox.cuh``: key ``(seed, crc32 of the layer's path)``, counter ``(block low, block high, step low,
step high)`` with ``block = element // 4``; the element's word is number ``element % 4`` of the four.
"""

from __future__ import annotations

from binascii import crc32
from dataclasses import dataclass

import numpy as np

from minet.errors import MinetError
from minet.settings import is_whole


@dataclass
class Clock:
    """The training step, shared by all layers of a net."""

    step: int = 0


def layer_key(seed: int, path: str) -> tuple[int, int]:
    """The Philox key of the layer at `path`: two 32-bit words."""
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise MinetError(
            f"seed must be a whole number in 0 .. {2**32 - 1}, got {seed!r}", "any 32-bit one will do"
        )
    return int(seed), crc32(path.encode())


def generator(seed: int, path: str) -> np.random.Generator:
    """NumPy's generator for what is drawn once, such as the first value of the parameter at `path`."""
    low, high = layer_key(seed, path)
    return np.random.Generator(np.random.Philox(key=low << 32 | high))
