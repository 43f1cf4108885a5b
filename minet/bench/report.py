"""The report of a benchmark: a block of lines for each case, closing lines, and facts for the JSON file."""

from __future__ import annotations

import datetime
import platform
import textwrap
from typing import Any

import numpy as np

from minet.bench import targets
from minet.bench.cases import Case
from minet.bench.process import threads
from minet.bench.rivals import RIVALS, installed
from minet.core.machine import processor
from minet.version import __version__

WORDS = {"copy": "of copy", "product": "of sgemm"}
HEAD = f"  {'':<12} {'minet':>15}   {'the fastest rival':<38} {'ratio':>6}   roofline"


def block(rows: list[dict[str, Any]]) -> str:
    """Return the lines of one case."""
    lines = [Case.from_dict(rows[0]["case"]).name]
    if rows[0]["failed"]:
        return "\n".join([*lines, f"  minet was not timed: {rows[0]['failed']}"])
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
        planned = f"(`minet summary` shows {rows[-1]['planned_mib']:.0f} MiB)"
        lines += wrapped(f"peak memory: {', '.join(sizes)} {planned}", 2)
    return "\n".join(lines + [f"  {name} {why}" for name, why in rows[0]["notes"].items()])


def wrapped(text: str, indent: int) -> list[str]:
    """Wrap the text into indented lines; an empty text gives none."""
    return textwrap.wrap(text, 110, initial_indent=" " * indent, subsequent_indent=" " * indent)


def timed(row: dict[str, Any], name: str) -> str:
    """Return a contender's median in ms, and half the range of its rounds."""
    times = row["times"][name]
    middle = float(np.median(times))
    text = f"{middle:.3g}" if middle < 1000 else f"{middle:.0f}"
    return f"{text} ms ±{(max(times) - min(times)) / 2 / middle:.0%}".replace("%", " %")


def roofline(row: dict[str, Any]) -> str:
    """Return the share of the bounding peak, its name, and for a copy the bandwidth."""
    if row["share"] is None:
        return ""
    speed = f", {row['gb_per_s']:.3g} GB/s" if row["bound"] == "copy" else ""
    return f"{100 * row['share']:.0f} % {WORDS[row['bound']]}{speed}"


def closing(backend: str, rows: list[dict[str, Any]]) -> str:
    """Return the missed targets, the cases that were not timed, and the rivals left out of some."""
    lines = []
    under = [(row, text) for row in rows for text in row["missed"]]
    lines += [f"  {row['case']['name']}, {row['phase']}: {text}" for row, text in under]
    for what, ratio, most in targets.beside(backend, rows):
        if ratio > most:
            lines.append(f"  {what}: time ratio {ratio:.2f}, target <= {most:g}")
    lines.insert(0, f"targets missed: {len(lines)}")
    for row in rows:
        name, phase = row["case"]["name"], row["phase"]
        if row["failed"] and phase == Case.from_dict(row["case"]).phases_on(backend)[0]:
            lines.append(f"minet was not timed on {name}: {row['failed']}")
    for name in sorted({name for row in rows for name in row["notes"]}):
        noted = [row for row in rows if name in row["notes"]]
        lines.append(
            f"{name} was not timed on: {', '.join(dict.fromkeys(row['case']['name'] for row in noted))}"
        )
    return "\n".join(lines)


def opening(facts: dict[str, Any]) -> str:
    """Return the lines that name the machine, the versions and the peaks."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [facts["card"] or f"{facts['machine']}, {facts['threads']} threads", versions]
    if peaks := facts["peaks"]:
        size, speed = peaks["copy"][-1]
        lines.append(
            f"copy {speed / 1e9:.1f} GB/s (read and written, {size >> 20} MiB), "
            f"sgemm {peaks['product'] / 1e9:.0f} GFLOP/s ({peaks['of']})"
        )
    return "\n".join([*lines, "medians of rounds ± half their range; ratio: the rival's time / minet's"])


def facts(backend: str, peaks: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, peaks."""
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
