"""All that a card has to show, in six minutes: `python -m benchmarks.card [--quick] [--out DIR] [PART ...]`.

Each part is a process with a time limit of its own, so that one that hangs or fails does not lose the others.
Those that measure no time (doctor, tests, compute-sanitizer, compiling for the bench) run first, side by
side.
What it prints goes to DIR/<part>.txt as it comes; DIR/card.json is written anew after each part, and
DIR/table.md is bench.json as the table of docs/gpu.md. It needs what `minet doctor --backend cuda` asks for,
and no network; PyTorch, pytest-xdist and compute-sanitizer are used if they are installed. The exit status is
1 if a part failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minet import SGD, Net, Sequential, SoftmaxCrossEntropy
from minet.bench import cases, peaks, report, rivals
from minet.bench import run as run_bench
from minet.bench.cases import DEFAULT, Case, inputs
from minet.core.files import write_whole

MINET = [sys.executable, "-c", "from minet.cli.main import main; main()"]
INSIDE = [sys.executable, "-m", "benchmarks.card", "--inside"]
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
TOTAL = {False: 360, True: 180}  # seconds for all parts, and with --quick
GRACE = 5.0  # seconds from an interrupt to the end of a part


class Part(NamedTuple):
    """A process: its name and command, and its seconds at most, in full and with --quick; 0 leaves it out."""

    name: str
    command: list[str]
    full: int
    quick: int
    timed: bool = True  # then it runs alone


def parts(folder: Path, quick: bool) -> list[Part]:
    """Return what to run, in this order; what is not installed is left out."""
    spread = ["-p", "no:benchmark"]  # pytest-benchmark, where it is, warns of the processes
    spread += ["-n", str(max(1, len(os.sched_getaffinity(0)) - 6))] if find_spec("xdist") else []
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    words = QUICK if quick else []
    checked = [sanitizer, "--error-exitcode", "9", "--tool"]
    tools = TOOLS if Path(sanitizer).exists() else ()
    return [
        Part("doctor", [*MINET, "doctor", "--backend", "cuda"], 30, 20, timed=False),
        Part("tests", [sys.executable, "-m", "pytest", "-m", "gpu", "-q", *spread], 120, 60, timed=False),
        Part("ahead", [sys.executable, "-m", "minet.bench.ahead", "cuda", *words], 120, 60, timed=False),
        *(Part(tool, [*checked, tool, *INSIDE, "kernels"], 90, 60, timed=False) for tool in tools),
        Part("bench", [*INSIDE, "bench", "--out", str(folder), *words], 195, 90),
        *([Part("averages", [*INSIDE, "averages"], 20, 15)] if find_spec("torch") else []),
        Part("loader", [sys.executable, "-m", "benchmarks.loader", "--backend", "cuda"], 25, 0),
    ]


QUICK = ["GaussianPool 3x3", "AvgPool 11x11", "ReLU 64", "Conv", "step"]  # parts of the names of cases


def run(chosen: Iterable[Part], folder: Path, quick: bool, total: float) -> list[dict[str, Any]]:
    """Run parts within `total` seconds; return what became of each, as in card.json."""
    facts, rows = report.facts("cuda", None), list[dict[str, Any]]()
    end = time.monotonic() + total

    def limited(part: Part) -> dict[str, Any] | None:
        limit = min(part.quick if quick else part.full, end - time.monotonic())
        return run_part(part, folder, limit) if limit > 0 else None

    chosen = list(chosen)
    beside = [part for part in chosen if not part.timed]
    with ThreadPoolExecutor(len(beside) or 1) as pool:
        for row in chain(pool.map(limited, beside), (limited(part) for part in chosen if part.timed)):
            if row:
                rows.append(row)
                print(f"== {row['part']}: {row['ended']} after {row['seconds']:.0f} s", flush=True)
                print("\n".join(row["last"]), flush=True)
                text = json.dumps({**facts, "card": card(), "parts": rows}, indent=1) + "\n"
                write_whole(folder / "card.json", text.encode())
    return rows


def run_part(part: Part, folder: Path, limit: float) -> dict[str, Any]:
    """Run a part; at its limit it is interrupted, as by Ctrl-C, and soon after that ended."""
    file, start = folder / f"{part.name}.txt", time.monotonic()
    with file.open("wb") as output:
        process = subprocess.Popen(
            part.command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
        )  # fmt: skip
        ended = ""
        for number, patience in ((signal.SIGINT, limit), (signal.SIGKILL, GRACE)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break
            ended = f"stopped at its limit of {limit:.0f} s"
            os.killpg(process.pid, number)
        status = process.wait()
    last = file.read_text(errors="replace").splitlines()[-12:]
    seconds = time.monotonic() - start
    return {
        "part": part.name,
        "ended": ended or f"status {status}",
        "status": status,
        "seconds": seconds,
        "last": last,
    }


def card() -> str:
    """Return the card's name, its driver and its clocks; empty without nvidia-smi."""
    asked = "--query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem"
    with contextlib.suppress(OSError):
        done = subprocess.run(
            ["nvidia-smi", asked, "--format=csv,noheader"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()
    return ""


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Return the rows of bench.json as a table in Markdown: times, shares of the roofline, ratios."""
    lines = [
        "| case | | µs | of roofline | ratio | the fastest rival, µs |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        if row["phase"] == "fprop+bprop":
            continue
        case = Case.from_dict(row["case"])
        if row["failed"]:
            lines.append(f"| {case.name} | {row['phase']} | | | | {row['failed']} |")
            continue
        share = f"{row['share']:.0%}".replace("%", " %") if row["share"] else ""
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
        rival = f"{row['rival']} {row['best'] * 1e3:.1f}" if row["rival"] else ""
        ours = f"{row['minet'] * 1e3:.1f}"
        lines.append(f"| {case.name} | {row['phase']} | {ours} | {share} | {ratio} | {rival} |")
    return "\n".join(lines) + "\n"


# -- what some parts do -----------------------------------------------------------------------------------


def bench(folder: Path, words: list[str]) -> None:
    """Run `minet bench --backend cuda`, but without compiling first: that was a part of its own."""
    others, _ = rivals.chosen(None, "cuda")
    found = peaks.measured("cuda")
    run_bench.measure(cases.chosen(words), others, "cuda", 2, found, folder / "bench.json")


def kernels(backend: str = "cuda") -> None:
    """Take steps of a net that has a small layer of nearly every kind, for compute-sanitizer to watch."""
    import minet.layers as L

    net = Net(
        Sequential(
            L.Conv(8, 3, pad=1), L.BatchNorm(), L.PReLU(), L.GaussianPool(3, 2, 1, kernels=2), L.LRN(3),
            L.Conv(8, 1), L.ReLU(), L.AvgPool(3, 1, 1), L.StochasticPool(2), L.MaxPool(2), L.Dropout(0.3),
            L.Linear(5),
        ),
        (3, 16, 16), 32, SoftmaxCrossEntropy(), backend,
    )  # fmt: skip
    draw = np.random.Generator(np.random.Philox(key=2015))
    x, labels = draw.standard_normal((3, 16, 16, 32), np.float32), draw.integers(0, 5, 32)
    solver = SGD(0.01, momentum=0.9)
    losses = [net.train_step(x, labels, solver) for _ in range(4)]
    print("losses", *losses, *np.abs(net.predict(x[..., :3].transpose(3, 0, 1, 2))).sum(axis=1))


def averages(device: str = "cuda") -> None:
    """Print the largest error of average pooling's y and dx, relative to their largest value in float64."""
    import torch
    from torch.nn import functional as F

    from minet.bench.contender_minet import build

    def both(case: Case, kind: Any, form: Any, on: str = device) -> list[np.ndarray]:
        window, stride, pad = (case.settings[name] for name in ("window", "stride", "pad"))
        x, dy = (torch.from_numpy(a.transpose(3, 0, 1, 2).copy()) for a in inputs(case, shapes[case.name]))
        image = x.to(on, kind).contiguous(memory_format=form).requires_grad_()
        y = F.avg_pool2d(image, window, stride, pad, count_include_pad=False)
        y.backward(dy.to(on, kind).contiguous(memory_format=form))
        pair = (y.detach(), image.grad)
        return [np.asarray(a.cpu().numpy()).transpose(1, 2, 3, 0) for a in pair if a is not None]

    shapes = {}
    for case in (case for case in DEFAULT if case.layer == "AvgPool" and case.is_plain):
        ours = build(case, "", device).results()
        shapes[case.name] = ours["y"].shape[:3]
        exact = both(case, torch.float64, torch.contiguous_format, "cpu")
        found = {
            "minet": [ours["y"], ours["dx"]],
            "torch-nchw": both(case, torch.float32, torch.contiguous_format),
            "torch-channels_last": both(case, torch.float32, torch.channels_last),
        }
        for name, arrays in found.items():
            far = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(arrays, exact, strict=True)]
            print(f"{case.name}: {name:<20} y {far[0]:.1e}  dx {far[1]:.1e}")


def main(arguments: list[str] | None = None) -> int:
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.card", description=about)
    parser.add_argument("parts", nargs="*", metavar="PART", help="Only these parts; by default all.")
    parser.add_argument("--quick", action="store_true", help="Three minutes instead of six.")
    parser.add_argument("--out", type=Path, default=Path("card"), help="Folder to write to.")
    parser.add_argument("--inside", choices=("bench", "kernels", "averages"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.inside:
        what = {"bench": lambda: bench(given.out, given.parts), "kernels": kernels, "averages": averages}
        what[given.inside]()
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    found = {part.name: part for part in parts(given.out.absolute(), given.quick)}
    if unknown := [name for name in given.parts if name not in found]:
        parser.error(f"no part is called {unknown[0]!r}; the parts are: {', '.join(found)}")
    chosen = [part for name, part in found.items() if not given.parts or name in given.parts]
    rows = run(chosen, given.out, given.quick, TOTAL[given.quick])
    if (file := given.out / "bench.json").exists():
        (given.out / "table.md").write_text(table(json.loads(file.read_text())["rows"]))
    return int(any(row["status"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
