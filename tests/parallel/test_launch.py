"""Whether a launcher started this process, and launches that cannot work."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from minet.core.errors import MinetError
from minet.parallel import launch


@pytest.mark.parametrize(
    "environment, found",
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, (3, 4)),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, (1, 2)),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "7"}, (7, 8)),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),  # a shell by srun
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),  # within a job's script, which is one process
        ({"PMI_SIZE": "two"}, None),
        ({"PMI_SIZE": "2"}, (0, 2)),
    ],
)
def test_the_launcher_is_known_by_its_environment(environment, found):
    assert launch.launched(environment) == found


@pytest.fixture
def started(monkeypatch):
    """Pretend that a launcher started this process, and that mpi4py knows of `size` processes."""

    def start(rank, told, size=None):
        monkeypatch.setattr(launch, "launched", lambda: (rank, told))
        monkeypatch.setattr(launch, "step_back", lambda seconds: None)
        world = SimpleNamespace(size=size, rank=rank)
        mpi = SimpleNamespace(COMM_WORLD=world, Get_library_version=lambda: "Some MPI v1.2, more")
        monkeypatch.setitem(sys.modules, "mpi4py", None if size is None else SimpleNamespace(MPI=mpi))

    return start


def test_no_launcher_no_ranks_and_no_mpi(monkeypatch):
    monkeypatch.setattr(launch, "launched", lambda: None)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert launch.ranks() is None


ALONE = "mpi4py knows of 1: each would train on its own"


@pytest.mark.parametrize(
    "told, size, message",
    [
        (2, None, "the launcher started 2 processes, and MPI is missing(.|\n)*minet-layers.mpi"),
        (2, 1, f"started 2 processes, and {ALONE}(.|\n)*Some MPI v1.2"),
        (1, 1, "the launcher started one process: there is nothing to share"),
    ],
)
def test_launches_that_cannot_work_are_told_by_process_0(started, told, size, message):
    started(0, told, size)
    with pytest.raises(MinetError, match=message):
        launch.ranks()


@pytest.mark.parametrize("size", [None, 1])
def test_the_other_processes_end_silently(started, size):
    started(1, 2, size)
    with pytest.raises(launch.SilentExit) as ended:
        launch.ranks()
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"reduce": "slow"}, "--reduce must be fast or ordered, got slow"),
        ({"patience": 0.0}, "--patience must be above 0 seconds, got 0"),
        ({"trace": Path("no/such/t.json")}, "--trace no/such/t.json: no such folder"),
    ],
)
def test_options_are_checked_before_anything_is_sent(started, options, message):
    started(0, 2, 2)
    with pytest.raises(MinetError, match=message):
        launch.ranks(**options)
    started(1, 2, 2)
    with pytest.raises(launch.SilentExit):
        launch.ranks(**options)
