"""One contender in a process of its own: told what to do by lines on standard input, answers by lines."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, TextIO

import numpy as np

from minet.bench.cases import Case
from minet.bench.watches import Built, measure


def main(arguments: list[str]) -> None:
    module, variant, backend, case, file = arguments
    # What libraries print must not come between the answers.
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
    except Exception as error:  # told, and not fatal to the others
        text = str(error).strip() or "no message"
        say(answers, {"error": f"{type(error).__name__}: {text.splitlines()[0]}"})


def answer(built: Built, word: str, phase: str, file: str) -> dict[str, Any]:
    """What the contender has to say."""
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
    raise ValueError(f"does not know {word!r}")


def say(answers: TextIO, what: dict[str, Any]) -> None:
    print(json.dumps(what), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
