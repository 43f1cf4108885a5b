"""Page-locked host memory, which the driver copies from and to while the host goes on."""

from __future__ import annotations

import importlib
from collections import deque
from functools import cache
from typing import Any

import numpy as np

STAGED = 1 << 16, 1 << 26  # bytes of a copy to the card that goes through here; small ones never wait
TURNS, SIZES = 2, 4  # copies of a size that may be on their way, and sizes that are kept
ROOMY = 64  # times its size must be free on the card for a copy to be brought there ahead
SMALL = 64  # bytes of values on their way to the host


class Turn:
    """Host memory for one copy to the card, and if there is room, a place on the card.

    The copy is made in a stream beside the one that needs it, while that one still computes; from its place
    on the card it takes little time.
    """

    def __init__(self, drv: Any, size: int) -> None:
        self.drv, self.locked = drv, drv.pagelocked_empty(size, "uint8")
        self.copied, self.used = _event(drv), _event(drv)
        self.place = drv.mem_alloc(size) if drv.mem_get_info()[0] > ROOMY * size else None

    def copy(self, values: np.ndarray, to: int, stream: Any, beside: Any) -> None:
        """Copy the values to an address on the card, for what `stream` does next."""
        self.copied.synchronize()  # of the turn before
        np.copyto(self.locked.view(values.dtype).reshape(values.shape), values)
        if self.place is None:
            self.drv.memcpy_htod_async(to, self.locked, stream)
            self.copied.record(stream)
        else:
            beside.wait_for_event(self.used)
            self.drv.memcpy_htod_async(self.place, self.locked, beside)
            self.copied.record(beside)
            stream.wait_for_event(self.copied)
            self.drv.memcpy_dtod_async(to, self.place, values.nbytes, stream)
            self.used.record(stream)


def _event(drv: Any) -> Any:
    return drv.Event(drv.event_flags.DISABLE_TIMING)


class PageLocked:
    """The page-locked memory of a context, for copies in one stream."""

    def __init__(self, stream: Any) -> None:
        self.drv: Any = importlib.import_module("pycuda.driver")
        self.stream, self.beside = stream, self.drv.Stream()
        self._small: list[tuple[np.ndarray, Any]] = []
        self._turns: dict[int, deque[Turn]] = {}

    def small(self) -> tuple[np.ndarray, Any]:
        """Memory for a few values, and an event; `give_back` them."""
        if self._small:
            return self._small.pop()
        return self.drv.pagelocked_empty(SMALL, "uint8"), _event(self.drv)

    def give_back(self, place: tuple[np.ndarray, Any]) -> None:
        self._small.append(place)

    def copy(self, values: np.ndarray, to: int) -> None:
        """Copy values to an address on the card; they may then change."""
        size = values.nbytes
        if size not in self._turns:  # perhaps the only one of its size, such as a parameter's first values
            self._turns[size] = deque()
            self.drv.memcpy_htod_async(to, values, self.stream)
        else:
            turns = self._turns.pop(size) or deque(Turn(self.drv, size) for _ in range(TURNS))
            self._turns[size] = turns  # now the newest of the sizes
            turns.rotate()
            turns[0].copy(values, to, self.stream, self.beside)
        if len(self._turns) > SIZES:
            oldest = next(iter(self._turns))
            if self._turns.pop(oldest):
                self.drv.Context.synchronize()


@cache
def page_locked(context: int, stream: Any) -> PageLocked:
    """The only one of a context: page-locking takes long."""
    return PageLocked(stream)
