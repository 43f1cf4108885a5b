"""One contender in a process of its own: told what to do by lines on standard input, answers by lines."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES

LEAST = 0.3  # seconds that one measurement lasts at least


def main() -> None:
    contender, variant, number, folder = sys.argv[1:5]
    case = CASES[int(number)]
    module = importlib.import_module(f"benchmarks.contender_{contender}")
    before = _status_mib("VmRSS")
    phases, results = module.build(case, variant)
    _say({"phases": list(phases)})
    for line in sys.stdin:
        word, _, phase = line.strip().partition(" ")
        if word == "results":
            arrays = results()
            np.savez(f"{folder}/{contender}-{variant}.npz", **arrays)
            _say({"arrays": list(arrays)})
        elif word == "time":
            _say({"seconds": _measure(phases[phase])})
        elif word == "memory":
            _say({"mib": _status_mib("VmHWM") - before})


def _measure(call: Any) -> float:
    """Seconds of one call, the median of as many as fill LEAST seconds (3 at least), after one to warm up."""
    call()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < LEAST:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _status_mib(name: str) -> float:
    """A size from the kernel's account of this process: VmRSS is resident memory, VmHWM its peak."""
    # Not getrusage: its peak starts from that of the process that this one was forked from.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":"))


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
