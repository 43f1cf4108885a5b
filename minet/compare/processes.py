"""Runs as processes side by side, which share the cores."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from minet.compare.grid import Job
from minet.runs import folders
from minet.runs.listing import has_checkpoint, text_of

THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cores() -> int:
    """The threads that a single run would use."""
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def command(job: Job, model: str, backend: str) -> list[str]:
    """`minet train` for a job; it goes on if there is a checkpoint."""
    words = [sys.executable, "-m", "minet", "train", model, "--out", str(job.folder), "--backend", backend]
    if has_checkpoint(job.folder):
        return [*words, "--resume"]
    settings = [f"{name}={text_of(value)}" for name, value in job.combination.settings.items()]
    return [*words, "--seed", str(job.seed), *(word for one in settings for word in ("--set", one))]


class Processes:
    """At most `count` runs at once, each with its share of the cores.

    Parameters
    ----------
    count : int
    model : str
        File or name.
    backend : str
    """

    def __init__(self, count: int, model: str, backend: str) -> None:
        self.count, self.model, self.backend = count, model, backend
        self.threads = max(1, cores() // count)
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock, self.stopped = threading.Lock(), False

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        """Train all; yield each job as it ends, with the reason if it failed.

        If the user stops this, the runs under way finish their steps, save them, and end.
        """
        with _hangups(), ThreadPoolExecutor(self.count) as pool:
            ends = {pool.submit(self._train, job): job for job in jobs}
            try:
                for end in as_completed(ends):
                    yield ends[end], end.result()
            except BaseException:
                self.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def stop(self) -> None:
        """Interrupt what runs, and start nothing more.

        By SIGTERM: what a script or ``nohup`` starts with ``&`` ignores SIGINT, and so do its children.
        """
        with self.lock:
            self.stopped = True
            for process in self.running:
                with contextlib.suppress(OSError):
                    process.terminate()

    def _train(self, job: Job) -> str:
        """Train one; "" or why it failed."""
        job.folder.mkdir(parents=True, exist_ok=True)
        output = job.folder / folders.OUTPUT
        shares = {name: str(self.threads) for name in THREADS}
        with output.open("wb") as file:
            with self.lock:
                if self.stopped:
                    return "stopped"
                # In a session of its own, for Ctrl-C to reach it once: by `stop`.
                process = subprocess.Popen(
                    command(job, self.model, self.backend),
                    stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                    env={**os.environ, **shares}, start_new_session=True,
                )  # fmt: skip
                self.running.add(process)
            status = process.wait()
        with self.lock:
            self.running.discard(process)
        return reason(status, output)


def reason(status: int, output: Path) -> str:
    """Why a run ended with this status; "" if it is done."""
    if not status:
        return ""
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    text = output.read_text(errors="replace").rstrip()
    before, found, message = text.rpartition("error: ")
    if found and (not before or before.endswith("\n")):
        return message
    return text.splitlines()[-1] if text else f"ended with status {status}"


@contextlib.contextmanager
def _hangups() -> Iterator[None]:
    """Within this context, a terminal that is closed stops the runs too, as Ctrl-C does."""
    hangup = getattr(signal, "SIGHUP", None)
    alone = threading.current_thread() is threading.main_thread()
    if hangup is None or not alone or signal.getsignal(hangup) is not signal.SIG_DFL:
        yield
        return
    signal.signal(hangup, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(hangup, signal.SIG_DFL)
