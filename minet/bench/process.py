"""The processes in which contenders run: how they are started, asked, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from minet.bench.cases import Case
from minet.core.errors import MinetError

PATIENCE = 300  # seconds that an answer may take; on a cold machine a model is compiled meanwhile


class How(NamedTuple):
    """The module of this package that builds a case, its variant, and the backend."""

    module: str
    variant: str
    backend: str


class Failed(Exception):
    """There is no answer: a contender raised an error, died, or took too long."""


class Contender:
    """A process and the protocol to talk to it.

    It serves one case after another: it starts with the first, and anew with the next one after a failure.
    """

    def __init__(self, name: str, folder: str, threads: int = 0) -> None:
        self.name, self.file = name, Path(folder, f"{name}.npz")
        self._errors, self._threads = Path(folder, f"{name}.txt"), threads
        self._process: subprocess.Popen[str] | None = None

    def prove(self, case: Case, how: How, against: Path | None = None, keep: bool = True) -> dict[str, Any]:
        """Build the case, compute it into `file` if it is to be kept, and return facts about it.

        Parameters
        ----------
        against : Path, optional
            Results that these must agree with: the fact ``differs`` is how they do not, or empty.

        Raises
        ------
        Failed
            If there is no answer, or if the results are wrong in themselves.
        """
        if case.is_model and how.backend == "cpu":
            self.close()  # the system counts a process's memory: what earlier cases left would be counted too
        files = [str(self.file) if keep else "", str(against or "")]
        facts = self._ask("prove", *how, case.as_dict(), *files)
        if facts["wrong"]:
            raise Failed(facts["wrong"])
        return facts

    def milliseconds(self, phase: str) -> float:
        """Time a phase of the case that was proven last.

        Raises
        ------
        Failed
            If there is no answer.
        """
        return float(self._ask("time", phase)["seconds"]) * 1e3

    def close(self) -> None:
        if process := self._process:
            self._process = None
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # type: ignore[union-attr]

    def _ask(self, *request: Any) -> dict[str, Any]:
        process = self._process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; below is why
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        if not select.select([process.stdout], [], [], PATIENCE)[0]:
            self.close()
            raise Failed(f"no answer in {PATIENCE} s")
        if not (line := process.stdout.readline()):
            status = process.wait()
            self.close()
            last = (self._errors.read_text().strip().splitlines() or ["no error output"])[-1]
            raise Failed(f"died with status {status}: {last}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            self.close()
            raise Failed(found["error"])
        return found

    def _started(self) -> subprocess.Popen[str]:
        with self._errors.open("w") as errors:
            return subprocess.Popen(
                python("worker"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=environment(self._threads), start_new_session=True,
            )  # fmt: skip


def python(module: str) -> list[str]:
    """Return the command that runs a module here; -P keeps the current folder out of imports."""
    return [sys.executable, "-P", "-m", f"minet.bench.{module}"]


def threads() -> int:
    """Return the number of threads of every contender: one per core."""
    return len(os.sched_getaffinity(0))


def environment(each: int = 0) -> dict[str, str]:
    """Return an environment with this same minet, and `each` threads for every contender, or one per core."""
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    names = ("NUMBA", "OMP", "OPENBLAS", "MKL")
    return {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)),
        **{f"{name}_NUM_THREADS": str(each or threads()) for name in names},
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
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
