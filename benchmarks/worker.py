"""One contender in a process of its own: told what to do by lines on standard input, answers by lines."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from typing import Any

import numpy as np

from benchmarks.cases import CASES

LEAST = 0.3  # seconds that one measurement lasts at least


def main() -> None:
    contender, variant, number, folder = sys.argv[1:5]
    case = CASES[int(number)]
    module = importlib.import_module(f"benchmarks.contender_{contender}")
    before = _peak_mib()
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
            _say({"mib": _peak_mib() - before})


def _measure(call: Any) -> float:
    """Seconds of one call, the median of as many as fill LEAST seconds (3 at least), after one to warm up."""
    call()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < LEAST:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
