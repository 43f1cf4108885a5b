"""One contender in its own process: reads requests as lines on standard input, answers in lines."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, TextIO

import numpy as np

from minet.bench.cases import Case
from minet.bench.timers import Built, measure


def main(arguments: list[str]) -> None:
    module, variant, backend, case, file = arguments
    # Keep what libraries print out of the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        built = importlib.import_module(f".{module}", __package__).build(
            Case.from_dict(json.loads(case)), variant, backend
        )
        say(answers, {"phases": list(built.phases), **built.facts})
        for line in sys.stdin:
            word, _, phase = line.strip().partition(" ")
            say(answers, answer(built, word, phase, file))
    except Exception as error:  # reported, and not fatal to other contenders
        text = str(error).strip() or "no message"
        say(answers, {"error": f"{type(error).__name__}: {text.splitlines()[0]}"})


def answer(built: Built, word: str, phase: str, file: str) -> dict[str, Any]:
    """Carry out a request, and return the answer."""
    if word == "results":
        arrays = built.results()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        return {"arrays": list(arrays)}
    if word == "time":
        if phase == "step":
            built.phases[phase]()
            built.watch.forget_peak()
        queued = phase not in ("step", "inference")
        return {"seconds": measure(built.watch, built.phases[phase], queued)}
    if word == "memory":
        return {"mib": built.watch.peak_mib()}
    raise ValueError(f"unknown request {word!r}")


def say(answers: TextIO, what: dict[str, Any]) -> None:
    print(json.dumps(what), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
