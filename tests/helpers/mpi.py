"""Commands under an MPI launcher, on this machine; tests skip where mpi4py or a launcher is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINET = [sys.executable, "-c", "from minet.cli.main import main; main()"]
# Open MPI asks root for this, and takes cores for slots: tests may have more ranks than there are cores.
ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def launcher():
    """The `mpiexec` of this environment, or skip the test."""
    pytest.importorskip("mpi4py", reason="mpi4py is missing: pip install 'minet-layers[mpi]'")
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if not found:
        pytest.skip("no mpiexec: pip install 'minet-layers[mpi]'")
    return found


def command(ranks, *words):
    return [launcher(), "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *map(str, words)]


def environment(**more):
    return {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "2", **more}


def run(ranks, *words, cwd, status=0, **more):
    """Run words with this many ranks and return what they print, stdout and stderr together."""
    done = subprocess.run(
        command(ranks, *words), cwd=cwd, env=environment(**more), timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode == status, f"{done.returncode}: {done.stdout}"
    return done.stdout


def train(ranks, *words, cwd, status=0, **more):
    """``mpiexec -n RANKS minet train WORDS``; one rank stands for no launcher."""
    if ranks > 1:
        return run(ranks, *MINET, "train", *words, cwd=cwd, status=status, **more)
    done = subprocess.run(
        [*MINET, "train", *map(str, words)], cwd=cwd, env=environment(**more), timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == status, f"{done.returncode}: {done.stdout}"
    return done.stdout
