"""A trace of what a rank did when, as Chrome's trace events: open it in ui.perfetto.dev or chrome://tracing.

Format: "Trace Event Format", complete events ("ph": "X"), times in microseconds.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.files import write_whole

COMPUTE, EXCHANGE = 0, 1  # lanes of a rank
WAITS = "wait for gradients", "tell the loss"  # which are no computing
MOST = 200_000  # events of a rank


class Trace:
    """What one rank did; only the first steps are kept, as a trace grows quickly.

    Parameters
    ----------
    rank : int
    steps : int
        How many steps are kept.
    """

    def __init__(self, rank: int, steps: int = 20) -> None:
        self.rank, self.left = rank, steps
        self.events: list[dict[str, Any]] = []
        self.zero = time.perf_counter()

    def start(self) -> None:
        """Set time 0; called in all ranks at once."""
        self.zero = time.perf_counter()

    def add(self, name: str, begin: float, end: float, lane: int = COMPUTE, **facts: Any) -> None:
        """Add an event between two times of ``time.perf_counter()``."""
        if self.left > 0 and len(self.events) < MOST:
            event = {"name": name, "ph": "X", "pid": self.rank, "tid": lane}
            event |= {"ts": round(1e6 * (begin - self.zero), 1), "dur": round(1e6 * (end - begin), 1)}
            self.events.append(event | ({"args": facts} if facts else {}))

    def step_done(self) -> None:
        self.left -= 1


def write(file: Path, events: list[list[dict[str, Any]]]) -> None:
    """Write the events of all ranks to one file."""
    named = [
        {"name": name, "ph": "M", "pid": rank, "tid": lane, "args": {"name": label}}
        for rank in range(len(events))
        for name, lane, label in (
            ("process_name", 0, f"rank {rank}"),
            ("thread_name", COMPUTE, "layers"),
            ("thread_name", EXCHANGE, "gradients"),
        )
    ]
    every = [*named, *(event for of_rank in events for event in of_rank)]
    write_whole(file, (json.dumps({"traceEvents": every, "displayTimeUnit": "ms"}) + "\n").encode())


def hidden(events: list[dict[str, Any]]) -> float:
    """The share of the time of exchange in which a rank also computed.

    Parameters
    ----------
    events : list of dict
        Of one rank.
    """
    spans = {lane: [] for lane in (COMPUTE, EXCHANGE)}  # type: dict[int, list[tuple[float, float]]]
    for event in events:
        if event.get("ph") == "X" and event["name"] not in WAITS:
            spans[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    total = sum(end - begin for begin, end in spans[EXCHANGE])
    if not total:
        raise MinetError("the trace holds no exchange of gradients")
    busy = _merged(spans[COMPUTE])
    both = sum(max(0.0, min(e, end) - max(b, begin)) for begin, end in spans[EXCHANGE] for b, e in busy)
    return both / total


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that do not overlap, and cover the same."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found
