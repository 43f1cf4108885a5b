"""`minet bench`: contests (`minet.bench.contest`) one after another, shown as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from minet import backends
from minet.bench import cases, contest, peaks, report, rivals
from minet.core.errors import MinetError
from minet.core.files import write_whole


def bench(
    words: Iterable[str] = (),
    *,
    backend: str = "cpu",
    rounds: int = 5,
    against: Iterable[str] | None = None,
    everything: bool = False,
    json_file: Path | None = None,
    plot_file: Path | None = None,
    say: Callable[[str], Any] = print,
) -> list[dict[str, Any]]:
    """Time the cases that contain a word, minet beside its rivals.

    Parameters
    ----------
    words : iterable of str
        Parts of cases' names; none for all.
    backend : {"cpu", "cuda"}
    rounds : int
        In each of them every contender is timed once.
    against : iterable of str, optional
        Rivals' names; by default all that are installed.
    everything : bool
        The product of all shapes, windows, strides and kernels, not the usual cases.
    json_file, plot_file : Path, optional
        What is written when it is done, or interrupted.

    Returns
    -------
    list of dict
        The rows, as in the JSON file.

    Raises
    ------
    MinetError
        If something asked for is not there, before anything is timed.
    """
    able(backend)
    if rounds < 1:
        raise MinetError(f"--rounds must be at least 1, got {rounds}")
    for file in filter(None, (json_file, plot_file)):
        if not file.parent.is_dir():
            raise MinetError(f"{file}: there is no folder {file.parent}")
    chosen = cases.chosen(list(words), everything)
    if not chosen:
        hint = (
            "--all has more" if not everything else "the usual ones are listed in minet/benchmarks/cases.py"
        )
        raise MinetError(f"no case's name contains {' or '.join(map(repr, words))}", hint)
    others, absent = rivals.chosen(against, backend)
    for package in absent:
        say(f"{package} is not installed, and does not take part: {rivals.INSTALL}")
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
        for case in chosen:
            rows += contest.run(case, others, backend, rounds, found)
            say(report.block(rows[-len(case.phases_on(backend)) :]))
        say("\n" + report.closing(backend, rows))
    finally:
        if rows and json_file:
            text = json.dumps({**facts, "rounds": rounds, "rows": rows}, indent=1) + "\n"
            write_whole(json_file, text.encode())
        if rows and plot_file:
            from minet.bench.plot import contests

            contests(plot_file, facts, rows)
    return rows


def able(backend: str) -> None:
    """Raise unless that backend is there, and is one to be timed."""
    if backend == "emu":
        raise MinetError("the emulator is for testing, not for timing", "--backend cpu")
    if backend not in ("cpu", "cuda"):
        raise MinetError(f"there is no backend {backend!r} to time", "the backends are: cpu, cuda")
    if why := backends.missing(backend):
        raise MinetError(why, f"minet doctor --backend {backend} says more")
