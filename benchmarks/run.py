"""Time minet beside PyTorch: `python -m benchmarks.run [WORD ...] [--rounds 5] [--json FILE]`.

For each case whose name contains a WORD (all without one), every contender starts in a process of its own.
First each computes the case and the results are compared: a contender that differs is not timed. Then they
are timed in turn, round after round; the table holds medians over the rounds, and the ratio of the best
PyTorch to minet (above 1: minet is faster).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES, Case

CONTENDERS = [("minet", "cpu"), ("torch", "nchw"), ("torch", "channels_last")]
RTOL = 2e-3  # of an array's largest value: float32 sums over 131,072 positions, in other orders


class Contender:
    """A worker process and the conversation with it."""

    def __init__(self, name: str, variant: str, number: int, folder: str) -> None:
        self.title = name if name == "minet" else f"{name} {variant}"
        self.file = Path(folder, f"{name}-{variant}.npz")
        command = [sys.executable, "-m", "benchmarks.worker", name, variant, str(number), folder]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.phases: list[str] = self.answer()["phases"]

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.title} died with status {self.process.wait()}")
        return dict(json.loads(line))

    def ask(self, request: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def difference(ours: Path, theirs: Path) -> float:
    """The largest difference of any array, relative to the array's largest value."""
    with np.load(ours) as mine, np.load(theirs) as others:
        shared = [name for name in others.files if name in mine.files]
        assert shared, "nothing to compare"
        return max(
            float(np.abs(mine[name] - others[name]).max() / np.abs(others[name]).max()) for name in shared
        )


def run_case(number: int, case: Case, rounds: int) -> list[dict[str, Any]]:
    """A row for each phase: medians in ms by contender, ratio, memory, and how far the results differ."""
    with tempfile.TemporaryDirectory() as folder:
        contenders = [Contender(name, variant, number, folder) for name, variant in CONTENDERS]
        try:
            for contender in contenders:
                contender.ask("results")
            far = {c.title: difference(contenders[0].file, c.file) for c in contenders[1:]}
            fit = [c for c in contenders if far.get(c.title, 0.0) <= RTOL]
            rows = []
            for phase in contenders[0].phases:
                times: dict[str, list[float]] = {c.title: [] for c in fit}
                for _ in range(rounds):
                    for c in fit:
                        times[c.title].append(c.ask(f"time {phase}")["seconds"] * 1e3)
                rows.append({"case": case.name, "phase": phase, "difference": far, "ms": times})
            memory = {c.title: round(c.ask("memory")["mib"]) for c in fit}
        finally:
            for contender in contenders:
                contender.close()
    return [row | {"mib": memory} for row in rows]


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    titles = [name if name == "minet" else f"{name} {variant}" for name, variant in CONTENDERS]
    medians = {title: statistics.median(ms) for title, ms in row["ms"].items()}
    cells = []
    for title in titles:
        if title in medians:
            spread = (max(row["ms"][title]) - min(row["ms"][title])) / 2 / medians[title]
            cells.append(f"{medians[title]:8.2f} ±{spread:4.0%}")
        else:
            cells.append(f"{'differs':>14}")
    rivals = [ms for title, ms in medians.items() if title != "minet"]
    ratio = f"{min(rivals) / medians['minet']:6.2f}" if rivals else "     -"
    memory = "/".join(str(row["mib"].get(title, "-")) for title in titles)
    return f"{row['case']:<44} {row['phase']:<12} " + " ".join(cells) + f" {ratio}  {memory}"


def machine() -> str:
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())  # fmt: skip
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="parts of case names; all cases without")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    print(machine())
    titles = f"{'minet ms':>14} {'torch nchw':>14} {'channels_last':>14}  ratio  peak MiB"
    print(f"{'case':<44} {'phase':<12} {titles}")
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(CASES):
        if not options.words or any(word in case.name for word in options.words):
            for row in run_case(number, case, options.rounds):
                rows.append(row)
                print(show(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
