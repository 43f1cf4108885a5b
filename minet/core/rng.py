"""Random numbers by counter: the same (seed, layer, step, element) gives the same bits everywhere.

Initialisers draw from NumPy's Philox generator, keyed by (seed, crc32 of the parameter's path). Layers that
draw while they run use Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011;
constants as in Random123), in NumPy by `uniform` and in Numba by ``minet/loops/philox.py``:
key ``(seed, crc32 of the layer's path)``, counter ``(block low, block high, step low, step high)`` with
``block = element // 4``; the element's word is number ``element % 4`` of the four.
"""

from __future__ import annotations

import math
from binascii import crc32

import numpy as np

from minet.core.errors import MinetError
from minet.core.settings import is_whole


class Clock:
    """The training step, shared by all layers of a net.

    Attributes
    ----------
    step : int
    now : int
        The same, read without being noted in `read`.
    read : bool
        Whether `step` was read since this was last set to False: what Python code makes of it may change from
        one step to the next, so a card cannot repeat it by itself.
    """

    def __init__(self, step: int = 0) -> None:
        self.now, self.read = step, False

    @property
    def step(self) -> int:
        self.read = True
        return self.now

    @step.setter
    def step(self, step: int) -> None:
        self.now = step

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clock) and self.now == other.now

    def __repr__(self) -> str:
        return f"Clock({self.now})"


def layer_key(seed: int, path: str) -> tuple[int, int]:
    """The Philox key of the layer at `path`: two 32-bit words."""
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise MinetError(
            f"seed must be a whole number in 0 .. {2**32 - 1}, got {seed!r}", "any 32-bit number will do"
        )
    return int(seed), crc32(path.encode())


def generator(seed: int, path: str) -> np.random.Generator:
    """NumPy's generator for what is drawn once, such as the initial value of the parameter at `path`."""
    low, high = layer_key(seed, path)
    return np.random.Generator(np.random.Philox(key=low << 32 | high))


def uniform(key: tuple[int, int], step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draws in [0, 1), float32, for layers in NumPy: ``uniform(self.key, self.clock.step, x.shape)``.

    Each element equals ``uniform(words(...))`` of ``minet/loops/philox.py``: 24 bits, exact.
    """
    size = math.prod(shape)
    block = np.arange(-(-size // 4), dtype=np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    steps = (np.full_like(block, word) for word in (step & 0xFFFFFFFF, step >> 32))
    counter = [block & low, block >> half, *steps]
    k0, k1 = key
    for _ in range(10):
        left, right = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (right >> half) ^ counter[1] ^ np.uint64(k0), right & low,
            (left >> half) ^ counter[3] ^ np.uint64(k1), left & low,
        ]  # fmt: skip
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    words = np.stack(counter, axis=-1).reshape(-1)[:size]
    return ((words >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)).reshape(shape)
