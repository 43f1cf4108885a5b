"""Training by several ranks: `python -m benchmarks.ranks [MODEL] [--ranks 1,2,4] [--steps N] [--json FILE]`.

Seconds of a step and images a second of `minet train` in one process and of `mpiexec -n P minet train`, on as
many images, drawn at random. A rank has a core of its own, as long as there are enough; beside it, "apart",
processes that compute a rank's share at the same time and exchange nothing. Shown are the time in which
gradients were exchanged, the share of it that was hidden behind computing, the bytes of a step, the speed of
MPI by itself, and how the times compare with the model in rank_model.py.

`--predict FILE` prints that model for up to 1,024 ranks, from a file of `--json`; `--plot FILE` draws it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rank_model
from benchmarks.rank_jobs import Job, jobs, measure, of_mpi
from minet.bench import report
from minet.core.errors import MinetError
from minet.train import modelfile

GOALS = {"speed": 0.9, "hidden": 0.5}


def core_of(found: list[Job]) -> rank_model.Step:
    """The step of one core, for the model: a line through its times, and buckets as of two ranks or more."""
    points = [
        (job.images, job.seconds) for job in found if job.kind == "alone" and job.cores == 1 and job.steps
    ]
    traced = next((job for job in found if job.kind == "ranks" and job.buckets), None)
    if traced is None or len(points) < 2:
        raise MinetError("the model needs one core at two sizes, and ranks")
    images, times = np.array(points).T
    # Relative errors count: a short step's time is as exact, in percent, as a long one's.
    slope, fixed = np.polyfit(images, times, 1, w=1 / times)
    bprop = statistics.median(traced.bprop)
    return rank_model.Step(
        int(images.max()), float(max(0, fixed)), float(slope), bprop, tuple(traced.buckets)
    )


def measured(found: list[Job]) -> str:
    """The jobs as a table in Markdown."""
    lines = [
        "| processes | images each | ms a step | images/s | exchange, ms | hidden | bytes a step |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for job in found:
        if job.failed or not job.steps:
            lines.append(f"| {job.name} | {job.images} | {job.failed or 'no time'} | | | | |")
            continue
        half = (max(job.steps) - min(job.steps)) / 2 / job.seconds
        spread = f" ±{half:.0%}".replace("%", " %") if len(job.steps) > 1 else ""
        row = [job.name, str(job.images), f"{job.seconds * 1e3:.1f}{spread}"]
        row.append(f"{job.count * job.images / job.seconds:,.0f}")
        row += (
            [f"{statistics.median(job.exchange) * 1e3:.2f}", f"{statistics.median(job.hidden) * 100:.0f} %",
             f"{job.bytes:,.0f}"] if job.exchange else ["", "", ""]
        )  # fmt: skip
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def verdicts(found: list[Job]) -> list[str]:
    """What the goals ask: ranks beside one process with as many cores and images, and how much is hidden."""
    lines = []
    for job in found:
        if job.kind != "ranks" or not job.steps or job.count * job.cores > max(one.cores for one in found):
            continue
        for one in found:
            if one.kind == "alone" and one.steps and (one.cores, one.images) == whole(job):
                speed = one.seconds / job.seconds
                lines.append(f"{job.name}: {speed:.2f} of the speed of {one.name}" + under("speed", speed))
                share = statistics.median(job.hidden)
                lines.append(f"{job.name}: {share:.2f} of the exchange is hidden" + under("hidden", share))
    return lines


def whole(job: Job) -> tuple[int, int]:
    """Cores and images of all of a job's processes."""
    return job.count * job.cores, job.count * job.images


def under(goal: str, value: float) -> str:
    return "" if value >= GOALS[goal] else f"  < goal: at least {GOALS[goal]:g}"


def against_model(found: list[Job], mpi: dict[str, dict[str, Any]]) -> str:
    """Measured times of ranks beside the model's, by what was measured apart and of MPI itself."""
    core = core_of(found)
    lines = [
        "| ranks | images each | measured, ms | model, ms | measured / model |",
        "|---|---:|---:|---:|---:|",
    ]
    for job in found:
        speed = mpi.get(str(job.count))
        if job.kind != "ranks" or not job.steps or speed is None:
            continue
        apart = [one for one in found if one.kind == "apart" and one.steps and shares(one) == shares(job)]
        own = apart[0].seconds if apart else None
        network = rank_model.Network("here", speed["small"], speed["bytes"] / speed["net"])
        step = replace(core, images=job.images)
        model = rank_model.seconds(step, job.count, network, weak=True, compute=own) or 0.0
        cells = f"{job.seconds * 1e3:.1f} | {model * 1e3:.1f} | {job.seconds / model:.2f}"
        lines.append(f"| {job.name} | {job.images} | {cells} |")
    return "\n".join(lines)


def shares(job: Job) -> tuple[int, int, int]:
    """How the work is shared: what ranks and processes apart have alike."""
    return job.count, job.cores, job.images


def of_messages(mpi: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"MPI between {P} ranks: {one['small'] * 1e6:.1f} us a message, "
        f"{one['bytes'] / one['net'] / 1e9:.1f} GB/s at {one['bytes'] / 1e3:,.0f} kB, "
        f"{(4 << 20) / one['large'] / 1e9:.1f} GB/s at 4 MiB, a sum of {one['bytes'] / 1e3:,.0f} kB in "
        f"{one['sum'] * 1e3:.2f} ms"
        for P, one in mpi.items()
    ]


def show(options: Any) -> int:
    """Measure, and print what was found; the status is 1 if a job failed."""
    model = modelfile.load(options.model)
    cores = sorted(os.sched_getaffinity(0))
    name = str(Path(options.model).resolve()) if options.model.endswith(".py") else options.model
    found = jobs(options.batch or model.batch, options.ranks, len(cores))
    facts = report.facts("cpu", None)
    print(report.opening(facts).splitlines()[0])
    began = time.monotonic()
    for number in range(options.rounds):
        if number and (time.monotonic() - began) * (number + 1) / number > options.seconds:
            break
        for job in found:
            about = f"round {number + 1}: {job.name}, {job.images} images each"
            print(f"\r{about:70}", end="", file=sys.stderr, flush=True)
            measure(job, name, options.steps, cores)
    print(f"\r{'':70}\r", end="", file=sys.stderr)
    print(measured(found), "", *verdicts(found), sep="\n")
    mpi: dict[str, dict[str, Any]] = {}
    for job in found:
        if job.buckets and not job.failed and str(job.count) not in mpi:
            try:
                mpi[str(job.count)] = of_mpi(job, int(job.bytes), len(cores))
            except MinetError as error:
                print(f"MPI between {job.count} ranks: {error}")
    if options.json:
        kept = {**facts, "model": options.model, "jobs": [asdict(job) for job in found], "mpi": mpi}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(*of_messages(mpi), sep="\n")
    if mpi:
        print("", against_model(found, mpi), sep="\n")
    return int(any(job.failed for job in found))


def predict(file: Path, plot: Path | None) -> None:
    """Print the model by figures of an earlier measurement."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        core = core_of([Job(**job) for job in kept["jobs"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MinetError(f"{file}: {error}", "a file that --json has written") from None
    print(rank_model.described(core), "", rank_model.table(core), sep="\n")
    if plot is not None:
        rank_model.plot(plot, core)


def counts(text: str) -> list[int]:
    """Numbers of ranks, of an option."""
    found = [int(word) for word in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ranks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("model", nargs="?", default="gaussian_inception")
    parser.add_argument("--ranks", default=[1, 2, 4], type=counts, help="how many, separated by commas")
    parser.add_argument("--steps", type=int, default=16, help="steps that are timed in each round")
    parser.add_argument("--rounds", type=int, default=5, help="at most; figures are medians of them")
    parser.add_argument("--seconds", type=float, default=200, help="no round begins that would end later")
    parser.add_argument("--batch", type=int, default=0, help="images of all ranks; by default the model's")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--predict", type=Path, metavar="FILE", help="print the model, by a file of --json")
    parser.add_argument("--plot", type=Path, help="with --predict: draw it as SVG")
    options = parser.parse_args(arguments)
    try:
        if options.predict:
            predict(options.predict, options.plot)
        else:
            return show(options)
    except MinetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
