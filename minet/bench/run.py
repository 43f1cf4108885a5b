"""`minet bench`: contests (`minet.bench.contest`) one after another, with results shown as they arrive."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from minet import backends
from minet.bench import ahead, cases, contest, peaks, report, rivals
from minet.core.errors import MinetError
from minet.core.files import write_whole


def bench(
    words: Iterable[str] = (),
    own: Iterable[cases.Case] = (),
    *,
    backend: str = "cpu",
    rounds: int = 5,
    against: Iterable[str] | None = None,
    everything: bool = False,
    json_file: Path | None = None,
    plot_file: Path | None = None,
    say: Callable[[str], Any] = print,
) -> list[dict[str, Any]]:
    """Time minet and its rivals on the cases whose names contain a word.

    Parameters
    ----------
    words : iterable of str
        Parts of case names; none selects every case, if there are none in `own`.
    own : iterable of Case
        Cases of layers outside minet.
    backend : {"cpu", "cuda"}
    rounds : int
        Each contender is timed once per round.
    against : iterable of str, optional
        Names of rivals; by default all that are installed.
    everything : bool
        Choose from the product of all shapes, windows, strides and kernels, not only from the usual cases.
    json_file, plot_file : Path, optional
        Files to write at the end, or when interrupted.

    Returns
    -------
    list of dict
        The rows, as in the JSON file.

    Raises
    ------
    MinetError
        If something asked for is missing; raised before anything is timed.
    """
    able(backend)
    if rounds < 1:
        raise MinetError(f"--rounds must be at least 1, got {rounds}")
    for file in filter(None, (json_file, plot_file)):
        if not file.parent.is_dir():
            raise MinetError(f"{file}: folder {file.parent} does not exist")
    words, own = list(words), list(own)
    chosen = own + (cases.chosen(words, everything) if words or not own else [])
    if not chosen:
        hint = "--all selects from more cases" if not everything else "minet/bench/cases.py lists the cases"
        raise MinetError(f"no case's name contains {' or '.join(map(repr, words))}", hint)
    others, absent = rivals.chosen(against, backend)
    for package in absent:
        say(f"{package} is not installed, so it is left out: {rivals.INSTALL}")
    if backend == "cuda":
        say("compiling what the contenders need, side by side")
        start = time.monotonic()
        ahead.compile_ahead(chosen, others, backend)
        say(f"compiled in {time.monotonic() - start:.0f} s")
    return measure(chosen, others, backend, rounds, peaks.measured(backend), json_file, plot_file, say)


def measure(
    chosen: list[cases.Case],
    others: list[rivals.Rival],
    backend: str,
    rounds: int,
    found: dict[str, Any] | None,
    json_file: Path | None = None,
    plot_file: Path | None = None,
    say: Callable[[str], Any] = print,
) -> list[dict[str, Any]]:
    """Run the contests, given the machine's peaks."""
    facts, rows = report.facts(backend, found), list[dict[str, Any]]()
    say(report.opening(facts) + "\n\n" + report.HEAD)
    try:
        with closing(contest.run(chosen, others, backend, rounds, found)) as contests:
            for block in contests:
                rows += block
                say(report.block(block))
        say("\n" + report.closing(backend, rows))
    finally:
        if rows and json_file:
            text = json.dumps({**facts, "rounds": rounds, "rows": rows}, indent=1) + "\n"
            write_whole(json_file, text.encode())
        if rows and plot_file:
            from minet.bench import plot

            plot.contests(plot_file, facts, rows)
    return rows


def able(backend: str) -> None:
    """Raise unless that backend works here and can be timed."""
    if backend == "emu":
        raise MinetError("the emulator is for testing, not for timing", "--backend cpu")
    if backend not in ("cpu", "cuda"):
        raise MinetError(f"there is no backend {backend!r} to time", "the backends are: cpu, cuda")
    if why := backends.missing(backend):
        raise MinetError(why, f"minet doctor --backend {backend} shows more")
