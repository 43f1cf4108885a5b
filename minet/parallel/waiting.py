"""Waiting for other ranks, but not for ever: who is missing is named, and the job ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, NoReturn

# Seconds between two looks at a request: at first, beside bprop, which needs the core, and after a while.
SOON, BESIDE, LATER = 2e-5, 2e-4, 1e-3
A_WHILE = 0.02  # seconds
GRACE = 3.0  # seconds in which those who wait too say so


class SilentExit(SystemExit):
    """The end of a process whose error another one reports."""


class Waiting:
    """Waits for MPI requests of several communicators, with one patience.

    A rank whose patience ends tells the others that it waits. Who has not said so a moment later is the one
    that all wait for.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        For this alone.
    patience : float
        Seconds.
    """

    def __init__(self, comm: Any, patience: float) -> None:
        self.comm, self.patience = comm, patience

    def wait(self, request: Any, what: str, pause: float = SOON) -> None:
        """Return when a request is done; end the job if it is not done in time."""
        begin = time.monotonic()
        while not request.Test():
            time.sleep(pause)
            waited = time.monotonic() - begin
            if waited > A_WHILE:
                pause = LATER
            if waited > self.patience:
                self._end(what)

    def _end(self, what: str) -> NoReturn:
        from mpi4py import MPI

        comm, heard, word = self.comm, {self.comm.rank}, bytearray(1)
        _sent = [comm.Isend(word, dest=other) for other in range(comm.size) if other != comm.rank]
        begin, status = time.monotonic(), MPI.Status()
        while time.monotonic() - begin < GRACE:
            while comm.Iprobe(source=MPI.ANY_SOURCE, status=status):
                comm.Recv(bytearray(1), source=status.source)
                heard.add(status.source)
            time.sleep(LATER)
        missing = sorted(set(range(comm.size)) - heard)
        if missing and comm.rank == min(heard):
            name = "rank" if len(missing) == 1 else "ranks"
            listed = ", ".join(map(str, missing[:9])) + (", ..." if missing[9:] else "")
            tell(
                f"error: {name} {listed} of {comm.size} did not answer for {self.patience:g} s, while others "
                f"waited for {what}\n  hint: the last checkpoint resumes the run; --patience gives more time"
            )
        elif not missing and comm.rank == 0:
            tell(f"error: {what} was not done in {self.patience:g} s, and all {comm.size} ranks wait for it")
        time.sleep(GRACE / 3 * (comm.rank != min(heard)))  # the one that tells ends the job
        end_job(comm)


def step_back(seconds: float) -> None:
    """Let another process tell first; the launcher then ends this one, without a word."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(seconds)


def end_job(comm: Any, status: int = 2) -> NoReturn:
    """End all processes of the job, those that hang too."""
    sys.stdout.flush()
    sys.stderr.flush()
    comm.Abort(status)
    os._exit(status)


def tell(text: str) -> None:
    """Print to standard error at once."""
    print(text, file=sys.stderr, flush=True)
