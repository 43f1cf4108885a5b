"""A process of the benchmark: reads requests as lines of JSON on standard input, answers in lines of JSON.

It stays from case to case, so that libraries are imported and kernels loaded once. An error ends it: what
failed may have spoiled more than its case, as a kernel's fault spoils a context.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from minet.bench.cases import Case
from minet.bench.compare import differs, wrong
from minet.bench.timers import Built, HostWatch, measure


def main() -> None:
    # Keep what libraries print out of the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=answers, flush=True)

    requests = SimpleQueue[str]()
    Thread(target=listen, args=(requests,), daemon=True).start()
    built = None
    try:
        while True:
            word, *given = json.loads(requests.get())
            if word == "prove":
                built = None  # gives its memory back before the next case needs as much
                gc.collect()
                built, found = prove(*given)
            elif word == "time" and built:
                found = {"seconds": timed(built, *given)}
            else:
                raise ValueError(f"cannot answer the request {word!r}")
            say(found)
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines() or ["no message"]
        told = map(str.strip, lines[:2])  # of a layer's error the first line is the place
        say({"error": ": ".join([type(error).__name__, *told])})


def listen(requests: SimpleQueue[str]) -> None:
    """Pass requests on. When there are no more, all ends, even in the midst of a case: the parent is gone."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def prove(
    module: str, variant: str, backend: str, values: dict[str, Any], file: str, against: str
) -> tuple[Built, Any]:
    """Build a case, compute its results, and call each phase once: then nothing is left to compile.

    Parameters
    ----------
    module : str
        The contender's module in this package.
    values : dict
        The case.
    file : str
        Where the arrays of the results go; "" keeps none, and judges none.
    against : str
        The file of the results that they must agree with; "" if there is none.

    Returns
    -------
    Built
    dict
        Facts about the case: ``phases``; ``wrong`` and ``differs``, empty if the results are right; for a
        training step on the cpu ``mib``, its peak memory.
    """
    case = Case.from_dict(values)
    built = importlib.import_module(f".{module}", __package__).build(case, variant, backend)
    arrays = built.results()
    if file:
        np.savez(file, **arrays)
    del arrays
    able = [phase for phase in case.phases_on(backend) if phase in built.phases]
    for phase in able:
        built.phases[phase]()
    facts = {"phases": able, "wrong": "", "differs": "", **built.facts}
    if file:  # here rather than where it was asked for, since there many contenders would wait for it
        facts["wrong"] = wrong(case, Path(file))
        whole = any("bprop" in phase or phase == "step" for phase in able)
        facts["differs"] = differs(case, Path(against), Path(file), whole) if against else ""
    if "step" in able and isinstance(built.watch, HostWatch):
        built.watch.forget_peak()
        built.phases["step"]()
        facts["mib"] = built.watch.peak_mib()
    return built, facts


def timed(built: Built, phase: str) -> float:
    """Return the seconds of a phase; a card's queue never runs empty, but for phases that read results."""
    return measure(built.watch, built.phases[phase], queued=phase not in ("step", "inference"))


if __name__ == "__main__":
    main()
