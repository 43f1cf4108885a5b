"""The measurements of benchmarks/ranks.py: jobs, what they find, and MPI by itself.

A job runs the command itself, `minet train`, on a model file that has another one's net, and random images.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.parallel.trace import COMPUTE, EXCHANGE, hidden

ROOT = Path(__file__).parents[1]
FIRST = 3  # steps that are not counted: kernels are loaded, and memory is touched for the first time
LIMIT = 120.0  # seconds of a job
# Runs `minet train` on some cores, without the pictures at its end.
COMMAND = """
import os, sys
cores = sys.argv.pop(1)
if cores:
    os.sched_setaffinity(0, map(int, cores.split(",")))
from minet.cli.main import main
from minet.train.callbacks import Curves
Curves.on_end = lambda *_: None
main()
"""
# A model file: another one's net on random images, with the time after each step.
MODEL = """
import json, os, time
from pathlib import Path
import numpy as np
from minet.data import Dataset
from minet.train import modelfile
from minet.train.callbacks import Callback

of = modelfile.load({model!r})
input_shape, batch, epochs, loss = of.input_shape, {batch}, 1, of.loss

def net(): return of.net()
def solver(): return of.solver()

def datasets():
    draw = np.random.Generator(np.random.Philox(key=2015))
    images = draw.integers(0, 256, ({images}, *input_shape), np.uint8)
    return Dataset(images, draw.integers(0, 10, len(images)), mean=128, std=64), None

class Times(Callback):
    def on_start(self, trainer): self.times = [time.perf_counter()]
    def on_batch(self, trainer, loss): self.times.append(time.perf_counter())
    def on_end(self, trainer, result):
        Path({folder!r}, f"times-{{os.getpid()}}.json").write_text(json.dumps(self.times))

def callbacks(): return [Times()]
"""


@dataclass
class Job:
    """A measurement, and what it found.

    Attributes
    ----------
    kind : {"alone", "apart", "ranks"}
        One process; several that know nothing of each other; ranks under mpiexec.
    count : int
        How many processes.
    cores : int
        Cores of each.
    images : int
        Images of each, in a step.
    steps : list of float
        Seconds of a step: in each round the median over steps, and over processes.
    exchange, hidden, bprop : list of float
        In each round: seconds of exchange in a step; the share of it that was hidden; the share of computing
        that was bprop. Ranks alone.
    buckets : list of (bytes, share of bprop after which it left)
    failed : str
        Why there are no figures.
    """

    kind: str
    count: int
    cores: int
    images: int
    steps: list[float] = field(default_factory=list)
    exchange: list[float] = field(default_factory=list)
    hidden: list[float] = field(default_factory=list)
    bprop: list[float] = field(default_factory=list)
    buckets: list[tuple[float, float]] = field(default_factory=list)
    failed: str = ""

    @property
    def name(self) -> str:
        processes = "process" if self.kind == "alone" else self.kind
        return f"{self.count} {processes}, {self.cores} core{'s' * (self.cores > 1)} each"

    @property
    def seconds(self) -> float:
        return statistics.median(self.steps)

    @property
    def bytes(self) -> float:
        return sum(size for size, _ in self.buckets)


def jobs(batch: int, counts: list[int], cores: int) -> list[Job]:
    """What is measured: all cores in one process, one core at several sizes, and ranks.

    A rank takes its share of the batch; two take a whole batch each, too.
    """
    found = [Job("alone", 1, cores, batch)]
    found += [Job("alone", 1, 1, max(1, batch // share)) for share in (1, 4, 16)]
    for P in counts:
        if P > 1 and batch % P == 0:
            share = max(1, cores // P), batch // P
            found += [Job("apart", P, *share), Job("ranks", P, *share)]
    if 2 in counts and cores > 1:
        found += [Job("ranks", 2, cores // 2, batch)]
    unique: list[Job] = []
    for job in found:
        if job not in unique:
            unique.append(job)
    return unique


def measure(job: Job, model: str, steps: int, cores: list[int]) -> None:
    """Run a job once, and add what it finds."""
    if job.failed:
        return
    try:
        with tempfile.TemporaryDirectory(prefix="minet-ranks-") as folder:
            run(job, model, steps, cores, Path(folder))
    except MinetError as error:
        job.failed = str(error).splitlines()[0]


def run(job: Job, model: str, steps: int, cores: list[int], folder: Path) -> None:
    whole = job.images * (job.count if job.kind == "ranks" else 1)
    file, count = folder / "of_random_images.py", FIRST + steps
    file.write_text(
        MODEL.format(model=model, batch=whole, images=whole * count, folder=str(folder)), encoding="utf-8"
    )

    def train(own: list[int], out: str, *more: str) -> list[str]:
        program = [sys.executable, "-P", "-c", COMMAND, ",".join(map(str, own)), "train", str(file)]
        return [*program, "--quiet", "--save-every", "0", "--out", str(folder / out), *more]

    trace = folder / "trace.json"
    if job.kind == "ranks":
        finish([start([*mpiexec(job, len(cores)), *train([], "run", "--trace", str(trace))], folder)])
    else:
        own = [[cores[(i * job.cores + j) % len(cores)] for j in range(job.cores)] for i in range(job.count)]
        if job.count * job.cores > len(cores):
            own = [cores] * job.count
        finish([start(train(own[i], f"run-{i}"), folder, job.cores) for i in range(job.count)])
    times = [np.diff(json.loads(one.read_text()))[FIRST:] for one in folder.glob("times-*.json")]
    if len(times) != job.count or not all(one.size for one in times):
        raise MinetError(f"{len(times)} of {job.count} processes came to their end")
    job.steps.append(float(np.median([np.median(one) for one in times])))
    if job.kind == "ranks":
        add_trace(job, json.loads(trace.read_text())["traceEvents"])


def start(command: list[str], folder: Path, threads: int = 0) -> subprocess.Popen[str]:
    """Start a command in a process group of its own; without `threads`, as in a user's shell."""
    env = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    if threads:
        env |= {f"{name}_NUM_THREADS": str(threads) for name in ("NUMBA", "OMP", "OPENBLAS", "MKL")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH", "")]))
    if os.geteuid() == 0:  # Open MPI asks root to insist
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=env, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(started: list[subprocess.Popen[str]], limit: float = LIMIT) -> str:
    """Wait for processes, and return what the last one printed; if one fails or is late, end them all."""
    end, output = time.monotonic() + limit, ""
    try:
        for process in started:
            try:
                output, _ = process.communicate(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise MinetError(f"not done in {limit:g} s") from None
            if process.returncode:
                lines = [line for line in output.splitlines() if line.strip()]
                said = next((line for line in lines if line.startswith("error:")), "") or " ".join(lines[-1:])
                raise MinetError(f"ended with status {process.returncode}: {said}")
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return output


def mpiexec(job: Job, cores: int) -> list[str]:
    """The launcher's command, which binds ranks to cores as long as there are enough."""
    beside = Path(sys.executable).with_name("mpiexec")
    program = str(beside) if beside.exists() else shutil.which("mpiexec")
    if program is None:
        raise MinetError("there is no mpiexec: pip install 'minet-layers[mpi]'")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    command = [program, "-n", str(job.count)]
    if "Open MPI" not in version:
        return command  # it binds by itself
    if job.count * job.cores > cores:
        return [*command, "--oversubscribe", "--bind-to", "none"]
    return [*command, "--map-by", f"slot:PE={job.cores}", "--bind-to", "core"]


def add_trace(job: Job, events: list[dict[str, Any]]) -> None:
    """Add what the ranks' traces say of exchange; the first steps are left out."""
    spent, shares, parts, begun, sizes = [], [], [], [], list[float]()
    for rank in range(job.count):
        own = [event for event in events if event["pid"] == rank and event["ph"] == "X"]
        starts = [event["ts"] for event in own if event["name"] == "fprop"][FIRST:]
        if not starts:
            raise MinetError("the trace is too short")
        own = [event for event in own if event["ts"] >= starts[0]]
        sums = [event for event in own if event["tid"] == EXCHANGE]
        spent.append(sum(event["dur"] for event in sums) / len(starts) / 1e6)
        shares.append(hidden(own))
        bprops = [event for event in own if event["name"] == "bprop"]
        computing = [e["dur"] for e in own if e["tid"] == COMPUTE and e["name"] in ("fprop", "loss", "bprop")]
        parts.append(sum(event["dur"] for event in bprops) / sum(computing))
        each = len(sums) // len(bprops)
        # All but the last steps are whole: a bucket's share of bprop, by its number in the step.
        begun.append([
            [(sums[i * each + k]["ts"] - bprop["ts"]) / bprop["dur"] for k in range(each)]
            for i, bprop in enumerate(bprops)
        ])  # fmt: skip
        sizes = [event["args"]["bytes"] for event in sums[:each]]
    job.exchange.append(float(np.median(spent)))
    job.hidden.append(float(np.mean(shares)))
    job.bprop.append(float(np.median(parts)))
    ready = np.clip(np.median(np.concatenate(begun), axis=0), 0, 1)
    job.buckets = [(size, round(float(share), 3)) for size, share in zip(sizes, ready, strict=True)]


def inside(size: int) -> None:
    """In a rank: time messages between ranks 0 and 1, and sums over all; rank 0 prints it."""
    from mpi4py import MPI

    comm, found = MPI.COMM_WORLD, dict[str, Any]()
    for name, count, calls in (("small", 8, 400), ("net", size, 40), ("large", 4 << 20, 10)):
        data, times = np.zeros(count, np.uint8), []
        for _ in range(calls):
            comm.Barrier()
            begin = time.perf_counter()
            if comm.rank == 0:
                comm.Send(data, dest=1)
                comm.Recv(data, source=1)
            elif comm.rank == 1:
                comm.Recv(data, source=0)
                comm.Send(data, dest=0)
            times.append(time.perf_counter() - begin)
        found[name] = statistics.median(times) / 2
    values, times = np.zeros(size // 4, np.float32), []
    for _ in range(40):
        comm.Barrier()
        begin = time.perf_counter()
        comm.Allreduce(MPI.IN_PLACE, values)
        times.append(time.perf_counter() - begin)
    found |= {"bytes": size, "sum": statistics.median(times), "ranks": comm.size}
    if comm.rank == 0:
        print(json.dumps(found))


def of_mpi(job: Job, size: int, cores: int) -> dict[str, Any]:
    """What `inside` finds with as many ranks as in a job."""
    command = [sys.executable, "-P", "-m", "benchmarks.rank_jobs", str(size)]
    printed = finish([start([*mpiexec(job, cores), *command], ROOT)])
    return dict(json.loads(next(line for line in printed.splitlines() if line.startswith("{"))))


if __name__ == "__main__":
    inside(int(sys.argv[1]))
