"""A case's contest: contenders, each in its own process, are compared first, then timed in turn."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from minet.bench import targets
from minet.bench.cases import Case
from minet.bench.compare import differs, wrong
from minet.bench.counts import bound
from minet.bench.rivals import COMPILED, RIVALS, Rival
from minet.core.errors import MinetError

REST = 0.02  # seconds for the previous contender's threads to go to sleep


class Failed(Exception):
    """A contender gave no answer: it raised an error, or died."""


class Contender:
    """A worker process, and the protocol to talk to it."""

    def __init__(self, name: str, module: str, variant: str, backend: str, case: Case, folder: str) -> None:
        self.name, self.file = name, Path(folder, f"{name}.npz")
        self._stderr = Path(folder, f"{name}.txt").open("w+")  # noqa: SIM115 - closed in close()
        command = [module, variant, backend, json.dumps(case.as_dict()), str(self.file)]
        self._process = subprocess.Popen(
            [*python("worker"), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            text=True, env=environment(), start_new_session=True,
        )  # fmt: skip

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._stderr.seek(0)
            last = (self._stderr.read().strip().splitlines() or ["no error output"])[-1]
            raise Failed(f"died with status {status}: {last}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise Failed(found["error"])
        return found

    def ask(self, request: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; `answer` reports why
        return self.answer()

    def compute(self, case: Case) -> dict[str, Any]:
        """Wait for the start, compute the case, and return the contender's facts."""
        facts = self.answer()
        self.ask("results")
        if why := wrong(case, self.file):
            raise Failed(why)
        return facts

    def milliseconds(self, phase: str) -> float:
        time.sleep(REST)
        return float(self.ask(f"time {phase}")["seconds"]) * 1e3

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


def python(module: str) -> list[str]:
    """Return the command that runs a module here; -P keeps the current folder out of imports."""
    return [sys.executable, "-P", "-m", f"minet.bench.{module}"]


def threads() -> int:
    """Return the number of threads of every contender: one per core."""
    return len(os.sched_getaffinity(0))


def environment() -> dict[str, str]:
    """Return an environment with this same minet, and the same number of threads for every contender."""
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    names = ("NUMBA", "OMP", "OPENBLAS", "MKL")
    return {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)),
        **{f"{name}_NUM_THREADS": str(threads()) for name in names}, "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }  # fmt: skip


def run(
    case: Case, rivals: list[Rival], backend: str, rounds: int, peaks: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Run the contest; return a row for each phase of the case, as `_row` makes it."""
    with tempfile.TemporaryDirectory() as folder:
        contest = _Contest(case, backend, folder)
        try:
            return contest.run(rivals, rounds, peaks)
        finally:
            contest.close()


class _Contest:
    def __init__(self, case: Case, backend: str, folder: str) -> None:
        self.case, self.backend, self.folder = case, backend, folder
        self.all: list[Contender] = []
        self.fit: list[Contender] = []
        self.notes: dict[str, str] = {}
        self.phases: dict[str, list[str]] = {}

    def start(self, name: str, module: str, variant: str, backend: str) -> Contender:
        contender = Contender(name, module, variant, backend, self.case, self.folder)
        self.all.append(contender)
        return contender

    def close(self) -> None:
        for contender in self.all:
            contender.close()

    def run(self, rivals: list[Rival], rounds: int, peaks: dict[str, Any] | None) -> list[dict[str, Any]]:
        asked = self.case.phases_on(self.backend)
        rivals = [rival for rival in rivals if rival.can(self.case)]
        try:
            ours = self.start("minet", "contender_minet", "", self.backend)
            facts = self._check(ours)
            for rival in (r for r in rivals if r.name != COMPILED):
                self._admit(ours, rival, rival.variant)
            for rival in (r for r in rivals if r.name == COMPILED):
                self._admit(ours, rival, f"compiled+{self._best_format(asked[-1])}")
            doubts = [f"{name} {why}" for name, why in self.notes.items() if why.startswith("differs")]
            if doubts and not self.fit:
                raise Failed(f"no rival agrees with it: {'; '.join(doubts)}")
            self.fit.insert(0, ours)
            return [self._row(phase, facts, rounds, peaks) for phase in asked]
        except Failed as error:
            return [self._row_without(phase, str(error)) for phase in asked]

    def _check(self, ours: Contender) -> dict[str, Any]:
        """Let minet compute the case; on any backend but cpu it must agree with the cpu backend."""
        facts = ours.compute(self.case)
        self.phases[ours.name] = facts["phases"]
        if self.backend != "cpu":
            reference = self.start("cpu", "contender_minet", "", "cpu")
            reference.compute(self.case)
            if why := differs(self.case, reference.file, ours.file):
                raise Failed(f"differs from the cpu backend: {why}")
            self.all.remove(reference)
            reference.close()
        return facts

    def _admit(self, ours: Contender, rival: Rival, variant: str) -> None:
        """Start a rival, and let it take part if it computes what minet computes."""
        contender = self.start(rival.name, rival.module, variant, self.backend)
        try:
            self.phases[rival.name] = contender.compute(self.case)["phases"]
            whole = any("bprop" in phase or phase == "step" for phase in self.phases[rival.name])
            if why := differs(self.case, ours.file, contender.file, whole):
                self.notes[rival.name] = f"differs: {why}"
                return
            self.fit.append(contender)
        except Failed as error:
            self.notes[rival.name] = f"failed: {error}"

    def _best_format(self, phase: str) -> str:
        """Return the variant of PyTorch that is fastest so far."""
        variants = {rival.name: rival.variant for rival in RIVALS if rival.package == "torch"}
        times = {c.name: c.milliseconds(phase) for c in self.fit if c.name in variants}
        return variants[min(times, key=times.__getitem__)] if times else "channels_last"

    def _row(
        self, phase: str, facts: dict[str, Any], rounds: int, peaks: dict[str, Any] | None
    ) -> dict[str, Any]:
        times, memory = self._timed(phase, rounds)
        medians = {name: statistics.median(each) for name, each in times.items()}
        ours = medians.pop("minet")
        rival = min(medians, key=medians.__getitem__) if medians else None
        best = medians[rival] if rival else None
        moved, done = facts["bytes"][phase], facts["operations"][phase]
        least = bound(moved, done, peaks)
        found = {
            "ratio": best / ours if best else None,
            "share": least[0] * 1e3 / ours if least else None,
            "memory": memory["minet"] / min(memory[n] for n in medians) if medians and memory else None,
        }
        return {
            "case": self.case.as_dict(), "phase": phase, "failed": "", "notes": self.notes, "times": times,
            "minet": ours, "rival": rival, "best": best, **found, "bound": least[1] if least else None,
            "bytes": moved, "operations": done, "gb_per_s": moved / ours / 1e6 if moved else None,
            "mib": memory, "planned_mib": facts["planned_mib"],
            "missed": targets.missed(self.backend, self.case, phase, found),
        }  # fmt: skip

    def _timed(self, phase: str, rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
        """Return times in ms and, for a training step, peak memory in MiB; drop rivals that fail."""
        able = [c for c in self.fit if phase in self.phases[c.name]]
        times: dict[str, list[float]] = {c.name: [] for c in able}
        memory: dict[str, float] = {}
        for turn in range(rounds):
            for contender in [c for c in able if c.name in times]:
                try:
                    times[contender.name].append(contender.milliseconds(phase))
                    if phase == "step" and turn == rounds - 1:
                        memory[contender.name] = contender.ask("memory")["mib"]
                except Failed as error:
                    if contender.name == "minet":
                        raise
                    self.notes[contender.name] = f"failed: {error}"
                    self.fit.remove(contender)
                    del times[contender.name]
        return times, memory

    def _row_without(self, phase: str, why: str) -> dict[str, Any]:
        nothing = dict.fromkeys(("minet", "rival", "best", "ratio", "share", "memory", "bound", "gb_per_s"))
        return {
            "case": self.case.as_dict(), "phase": phase, "failed": why, "notes": self.notes, "times": {},
            **nothing, "mib": {}, "missed": [],
        }  # fmt: skip


def answer_of(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module in its own process, and return the JSON that it prints as its last line."""
    done = subprocess.run(
        [*python(module), *arguments], capture_output=True, text=True, env=environment(), check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no error output"])[-1]
        raise MinetError(f"minet.bench.{module} {' '.join(arguments)} failed: {last}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
