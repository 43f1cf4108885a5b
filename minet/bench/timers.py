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
MOST = 1000  # calls of a measurement
STEPS = 10  # timed together on a card, where one is started while the one before it runs


class HostWatch:
    """The host's clock, and the operating system's memory figures for this process."""

    calls, least = 3, 0.2  # calls and seconds that a measurement takes at least

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
    """

    calls, least = 10, 0.04  # as of HostWatch; events are precise, and a call waits behind other work

    def __init__(self, event: Call, between: Callable[[Any, Any], float], busy: Call) -> None:
        self._event, self._between, self._busy = event, between, busy

    def seconds(self, call: Call, queued: bool = False) -> float:
        """Return the seconds of one call.

        `queued` if it never waits: the card is kept busy before it. Else it is one of several calls, as in
        training, and what Python takes is part of it.
        """
        start, stop = self._event(), self._event()
        calls = 1 if queued else STEPS
        if queued:
            self._busy()
        start.record()
        for _ in range(calls):
            call()
        stop.record()
        stop.synchronize()
        return self._between(start, stop) / 1e3 / calls


class Built(NamedTuple):
    """A contender's case: what to time, by phase; what to compare; how to measure time and memory."""

    phases: dict[str, Call]
    results: Results
    watch: Any
    facts: dict[str, Any] = {}


def measure(watch: Any, call: Call, queued: bool, least: float | None = None) -> float:
    """Return the median seconds of calls, after a warm-up call.

    Parameters
    ----------
    watch : HostWatch or CardWatch
    call : callable
    queued : bool
        As for ``seconds`` of the watch.
    least : float, optional
        Seconds to fill with calls, though with a few at least; by default the watch's own.
    """
    watch.seconds(call)
    seconds: list[float] = []
    end = time.perf_counter() + (watch.least if least is None else least)
    while len(seconds) < watch.calls or (time.perf_counter() < end and len(seconds) < MOST):
        seconds.append(watch.seconds(call, queued))
    return float(np.median(seconds))


def pycuda_watch(be: Any) -> CardWatch:
    """Return the watch for minet's cuda backend."""
    waste = be.empty((1 << 26,))

    class Event:
        """An event in the backend's stream."""

        def __init__(self) -> None:
            self.event = be.drv.Event()

        def record(self) -> None:
            self.event.record(be.stream)

        def synchronize(self) -> None:
            self.event.synchronize()

    return CardWatch(
        Event, lambda a, b: float(a.event.time_till(b.event)),
        lambda: [be.fill(waste, 0) for _ in range(20)],
    )  # fmt: skip


def torch_watch(torch: Any) -> CardWatch:
    """Return the watch for PyTorch on a card."""
    waste = torch.empty(1 << 26, device="cuda")
    return CardWatch(
        lambda: torch.cuda.Event(enable_timing=True), lambda a, b: float(a.elapsed_time(b)),
        lambda: [waste.zero_() for _ in range(20)],
    )  # fmt: skip


def status_mib(name: str) -> float:
    """Return a size from /proc/self/status: VmRSS is resident memory, VmHWM its peak."""
    # Not getrusage: its peak starts from the peak of the parent process.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":"))
