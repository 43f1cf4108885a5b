"""Random numbers by counter: the same (seed, layer, step, element) gives the same bits everywhere.

Initialisers draw from NumPy's Philox generator, keyed by (seed, crc32 of the parameter's path). Layers that
draw while they run use Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011;
constants as in Random123), in NumPy by `uniform` and in Numba by ``minet/loops/philox.py``:
key ``(seed, crc32 of the layer's path)``, counter ``(block low, block high, step low, step high)`` with
``block = element // 4``; the element's word is number ``element % 4`` of the four.

The element is its flat index in an array of the whole batch. If the samples at hand are only a part of it
(`Clock.part`), element i of their ``(..., N)`` is ``i // N * whole + first + i % N``: parts draw what the
whole batch would.
"""

from __future__ import annotations

import math
import operator
from binascii import crc32
from typing import Any, NoReturn

import numpy as np

from minet.core.errors import MinetError
from minet.core.settings import is_whole


class Clock:
    """The training step, shared by all layers of a net.

    Attributes
    ----------
    step : int
        If `part` is set, a `PartStep`: `uniform` takes it as it is, ``int(step)`` is the number.
    now : int
        The number, read without being noted in `read`.
    read : bool
        Whether `step` was read since this was last set to False: what Python code makes of it may change from
        one step to the next, so a card cannot repeat it by itself.
    batch : int, optional
        N, the samples at hand, as the net sets it.
    part : (int, int), optional
        ``(first, whole)``: the samples at hand are samples first .. first + N - 1 of a batch of `whole`, and
        draw what they would there. None: they are all of it.
    """

    def __init__(self, step: int = 0) -> None:
        self.now, self.read = step, False
        self.batch: int | None = None
        self._part: tuple[int, int] | None = None

    @property
    def step(self) -> Any:
        self.read = True
        return self.now if self._part is None else PartStep(self.now, self.batch, *self._part)

    @step.setter
    def step(self, step: Any) -> None:
        self.now = int(step)

    @property
    def part(self) -> tuple[int, int] | None:
        return self._part

    @part.setter
    def part(self, part: tuple[int, int] | None) -> None:
        if part is not None:
            fits = isinstance(part, tuple) and len(part) == 2 and all(map(is_whole, part))
            if not fits or not 0 <= part[0] < part[1]:
                found = f"a part of a batch is (first, whole) with 0 <= first < whole, got {part!r}"
                raise MinetError(found, "(4, 12): the samples from number 4 on, of 12")
            part = int(part[0]), int(part[1])
        self._part = part

    def samples(self, count: int) -> tuple[int, int]:
        """Return ``(first, whole)`` of `count` samples, ``(0, count)`` if they are the whole batch."""
        return (0, count) if self._part is None else _inside(*self._part, count)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clock) and (self.now, self.part) == (other.now, other.part)

    def __repr__(self) -> str:
        return f"Clock({self.now})"


def _inside(first: int, whole: int, count: int) -> tuple[int, int]:
    """Refuse `count` samples that the part cannot have."""
    if first + count > whole:
        found = f"{count} samples from number {first} on are no part of a batch of {whole}"
        raise MinetError(found, "clock.part is (first, whole) of the samples that the net is given")
    return first, whole


class PartStep:
    """The training step where a part of a batch is at hand, and which part.

    It compares and computes as a number does, but is none, so that what would seed a generator or a compiled
    kernel with it alone, and draw the same numbers in every part, refuses it.

    Attributes
    ----------
    now : int
        The step.
    batch, first, whole : int
        N, the number of the first sample, and that of all; N may be None.
    """

    __slots__ = ("batch", "first", "now", "whole")

    def __init__(self, now: int, batch: int | None, first: int, whole: int) -> None:
        self.now, self.batch, self.first, self.whole = now, batch, first, whole

    def __index__(self) -> int:
        return self.now

    def __hash__(self) -> int:
        return hash(self.now)

    def __repr__(self) -> str:
        return f"{self.now} (samples from {self.first} on, of {self.whole})"

    @property
    def _numba_type_(self) -> NoReturn:  # which Numba looks for
        found = "clock.step of a part of a batch does not say which words a kernel's elements draw"
        hint = "pass int(self.clock.step), and first, whole = self.clock.samples(N): see the Layer docstring"
        raise MinetError(found, hint)


def _as_numbers_do(name: str) -> None:
    """Let the step of a part do what numbers do."""
    of = getattr(operator, name)
    setattr(PartStep, f"__{name}__", lambda self, other: of(self.now, other))
    if name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        setattr(PartStep, f"__r{name}__", lambda self, other: of(other, self.now))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge"):
    _as_numbers_do(_name)


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


def uniform(key: tuple[int, int], step: int | PartStep, shape: tuple[int, ...]) -> np.ndarray:
    """Draws in [0, 1), float32, for layers in NumPy: ``uniform(self.key, self.clock.step, x.shape)``.

    Each element equals ``uniform(words(...))`` of ``minet/loops/philox.py``: 24 bits, exact. The last axis is
    that of the samples. What all samples share, such as noise on a weight, draws by ``int(self.clock.step)``.

    Raises
    ------
    MinetError
        If the step is that of a part of a batch, and the last axis is not N.
    """
    size = math.prod(shape)
    if not isinstance(step, PartStep):
        words = _words(key, step, np.arange(-(-size // 4), dtype=np.uint64)).reshape(-1)[:size]
    else:
        if not shape or shape[-1] != (step.batch or shape[-1]):
            found = f"draws of shape {shape} do not end with the axis of the {step.batch or ''} samples"
            raise MinetError(found, "int(self.clock.step) draws what all samples share")
        count = shape[-1]
        _inside(step.first, step.whole, count)
        # Row by row: samples that follow one another are elements that do.
        first = np.arange(size // count if count else 0)[:, None] * step.whole + step.first
        blocks = first // 4 + np.arange((count + 6) // 4)
        words = _words(key, step.now, blocks.astype(np.uint64)).reshape(len(first), -1)
        words = np.take_along_axis(words, first % 4 + np.arange(count), axis=1)
    return ((words >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)).reshape(shape)


def _words(key: tuple[int, int], step: int, block: np.ndarray) -> np.ndarray:
    """The four words of each block, along a new last axis."""
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
    return np.stack(counter, axis=-1)
