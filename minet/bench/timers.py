"""Measure a contender's time and memory: by the host's clock, or by events in a card's queue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Call: TypeAlias = Callable[[], Any]
Results: TypeAlias = Callable[[], dict[str, np.ndarray]]
LEAST, CALLS, MOST = 0.2, 3, 1000  # least seconds, least calls and most calls of a measurement


class HostWatch:
    """The host's clock, and the operating system's memory figures for this process."""

    calls = CALLS

    def __init__(self) -> None:
        self._before = 0.0
        self.start_memory()

    def seconds(self, call: Call, queued: bool = False) -> float:
        """Return the seconds of one call."""
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def start_memory(self) -> None:
        """Count memory from now on; contenders call this after their imports."""
        self._before = status_mib("VmRSS")

    def forget_peak(self) -> None:
        """Reset the peak, so that memory used to compile and to compare does not count."""
        with contextlib.suppress(OSError):  # then the peak covers the whole process
            Path("/proc/self/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        return status_mib("VmHWM") - self._before


class CardWatch:
    """Events in a card's queue.

    Parameters
    ----------
    event : callable
        Makes an event with ``record()`` and ``synchronize()``.
    between : callable
        Milliseconds from one event to another.
    busy : callable
        Gives the card some milliseconds of work. It is queued before the calls to be timed, so that their
        time is the card's, not that of Python, which may be slower than a kernel.
    used : callable
        Bytes of the card's memory in use, or the largest number so far if it is known.
    """

    calls = 10

    def __init__(self, event: Call, between: Callable[[Any, Any], float], busy: Call, used: Call) -> None:
        self._event, self._between, self._busy, self._used = event, between, busy, used
        self._before = 0
        self.start_memory()

    def seconds(self, call: Call, queued: bool = False) -> float:
        """Return the seconds of one call; `queued` if it never waits: the card is kept busy before it."""
        start, stop = self._event(), self._event()
        if queued:
            self._busy()
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return self._between(start, stop) / 1e3

    def start_memory(self) -> None:
        self._before = self._used()

    def forget_peak(self) -> None:
        pass

    def peak_mib(self) -> float:
        return float(self._used() - self._before) / 2**20


class Built(NamedTuple):
    """A contender's case: what to time, by phase; what to compare; how to measure time and memory."""

    phases: dict[str, Call]
    results: Results
    watch: Any
    facts: dict[str, Any] = {}


def measure(watch: Any, call: Call, queued: bool, least: float = LEAST) -> float:
    """Return the median seconds of calls that fill `least` seconds, at least a few, after a warm-up call."""
    watch.seconds(call)
    seconds: list[float] = []
    while len(seconds) < watch.calls or (sum(seconds) < least and len(seconds) < MOST):
        seconds.append(watch.seconds(call, queued))
    return float(np.median(seconds))


def pycuda_watch(be: Any) -> CardWatch:
    """Return the watch for minet's cuda backend."""
    drv, waste = be.drv, be.empty((1 << 26,))

    def used() -> int:
        free, total = drv.mem_get_info()
        return int(total - free)

    return CardWatch(
        drv.Event, lambda a, b: float(a.time_till(b)), lambda: [be.fill(waste, 0) for _ in range(20)], used
    )


def torch_watch(torch: Any) -> CardWatch:
    """Return the watch for PyTorch on a card."""
    waste = torch.empty(1 << 26, device="cuda")
    return CardWatch(
        lambda: torch.cuda.Event(enable_timing=True), lambda a, b: float(a.elapsed_time(b)),
        lambda: [waste.zero_() for _ in range(20)], torch.cuda.max_memory_reserved,
    )  # fmt: skip


def status_mib(name: str) -> float:
    """Return a size from /proc/self/status: VmRSS is resident memory, VmHWM its peak."""
    # Not getrusage: its peak starts from the peak of the parent process.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":"))
