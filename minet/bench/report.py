"""What a benchmark says: a block of lines for each case, closing lines, and a JSON file."""

from __future__ import annotations

import datetime
import platform
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from minet.bench import targets
from minet.bench.cases import Case
from minet.bench.contest import threads
from minet.bench.rivals import RIVALS, installed
from minet.version import __version__

WORDS = {"copy": "of copy", "product": "of sgemm"}
HEAD = f"  {'':<12} {'minet':>15}   {'the fastest rival':<38} {'ratio':>6}   roofline"


def block(rows: list[dict[str, Any]]) -> str:
    """The lines of one case."""
    lines = [Case.from_dict(rows[0]["case"]).name]
    if rows[0]["failed"]:
        return "\n".join([*lines, f"  minet has no figures: {rows[0]['failed']}"])
    for row in rows:
        ours = timed(row, "minet")
        best = f"{timed(row, row['rival'])} {row['rival']}" if row["rival"] else ""
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
        missed = "  < target" if row["missed"] else ""
        lines.append(
            f"  {row['phase']:<12} {ours:>15}   {best:<38} {ratio:>6}   {roofline(row)}{missed}".rstrip()
        )
        rest = [f"{name} {timed(row, name)}" for name in row["times"] if name not in ("minet", row["rival"])]
        lines += wrapped(", ".join(rest), 33)
    if rows[-1]["mib"]:
        sizes = [f"{name} {size:.0f} MiB" for name, size in rows[-1]["mib"].items()]
        planned = f"(the summary of minet's net says {rows[-1]['planned_mib']:.0f} MiB)"
        lines += wrapped(f"peak memory: {', '.join(sizes)} {planned}", 2)
    return "\n".join(lines + [f"  {name} {why}" for name, why in rows[0]["notes"].items()])


def wrapped(text: str, indent: int) -> list[str]:
    """The text as lines that far from the left; none of no text."""
    return textwrap.wrap(text, 110, initial_indent=" " * indent, subsequent_indent=" " * indent)


def timed(row: dict[str, Any], name: str) -> str:
    """A contender's median in ms, and half the range of its rounds."""
    times = row["times"][name]
    middle = float(np.median(times))
    said = f"{middle:.3g}" if middle < 1000 else f"{middle:.0f}"
    return f"{said} ms ±{(max(times) - min(times)) / 2 / middle:.0%}".replace("%", " %")


def roofline(row: dict[str, Any]) -> str:
    """The share of what the machine can do, and of what; on a card the bandwidth too."""
    if row["share"] is None:
        return ""
    speed = f", {row['gb_per_s']:.3g} GB/s" if row["bound"] == "copy" else ""
    return f"{100 * row['share']:.0f} % {WORDS[row['bound']]}{speed}"


def closing(backend: str, rows: list[dict[str, Any]]) -> str:
    """The rows under their targets, those without figures, and who was left out, once all is measured."""
    lines = []
    under = [(row, text) for row in rows for text in row["missed"]]
    lines += [f"  {row['case']['name']}, {row['phase']}: {text}" for row, text in under]
    for what, ratio, most in targets.beside(backend, rows):
        if ratio > most:
            lines.append(f"  {what}: {ratio:.2f} times its time, target {most:g}")
    lines.insert(0, f"{len(lines)} under target:" if lines else "no row is under its target")
    for row in rows:
        name, phase = row["case"]["name"], row["phase"]
        if row["failed"] and phase == Case.from_dict(row["case"]).phases_on(backend)[0]:
            lines.append(f"no figures for {name}: {row['failed']}")
    for name in sorted({name for row in rows for name in row["notes"]}):
        noted = [row for row in rows if name in row["notes"]]
        lines.append(
            f"{name} was not timed on: {', '.join(dict.fromkeys(row['case']['name'] for row in noted))}"
        )
    return "\n".join(lines)


def opening(facts: dict[str, Any]) -> str:
    """On what it is measured."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [facts["card"] or f"{facts['machine']}, {facts['threads']} threads", versions]
    if peaks := facts["peaks"]:
        size, speed = peaks["copy"][-1]
        lines.append(
            f"copy {speed / 1e9:.1f} GB/s (read and written, {size >> 20} MiB), "
            f"sgemm {peaks['product'] / 1e9:.0f} GFLOP/s ({peaks['of']})"
        )
    return "\n".join([*lines, "medians of rounds ± half their range; ratio: the rival's time over minet's"])


def facts(backend: str, peaks: dict[str, Any] | None) -> dict[str, Any]:
    """What a figure depends on."""
    packages = dict.fromkeys(["numpy", "numba", *(rival.package for rival in RIVALS)])
    versions = {name: found for name in packages if (found := installed(name))}
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "backend": backend,
        "machine": processor(),
        "card": (peaks or {}).get("device", ""),
        "threads": threads(),
        "versions": {"minet": __version__, "Python": platform.python_version(), **versions},
        "peaks": peaks,
    }


def processor() -> str:
    """The processor's name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
