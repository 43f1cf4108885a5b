"""Whether an MPI launcher started this process as one of several, and what is wrong if they cannot talk.

It reads the environment alone, so that a process by itself never imports MPI.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from minet.core.errors import MinetError
from minet.parallel.options import DEFAULTS, SUMS
from minet.parallel.waiting import GRACE, SilentExit, step_back

# What launchers set: how many processes, and which one this is. Open MPI, MPICH and Intel MPI, Slurm's srun.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
RABENSEIFNER = "3"  # number in Open MPI's coll_libnbc_iallreduce_algorithm
INSTALL = "pip install 'minet-layers[mpi]', or mpi4py built with the cluster's own MPI"


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """``(rank, size)`` as the launcher says; None if no launcher started this process."""
    for size, rank in LAUNCHERS:
        if environment.get(size, "").isdecimal():
            if environment[size] == "1" and size.startswith("SLURM"):
                return None  # a shell that srun started has that too
            number = environment.get(rank, "")
            return int(number) if number.isdecimal() else 0, int(environment[size])
    return None


def ranks(micro_batches: int = 1, **options: Any) -> Any:
    """The processes that train together, or None if this one was not started by a launcher.

    Parameters
    ----------
    micro_batches : int
        In how many parts each process computes its share of a batch.
    **options
        As for `minet.parallel.ranks.Ranks`; without a launcher they must be as they are by default.

    Raises
    ------
    MinetError
        In process 0, if there is one only, if they do not know of each other, or if an option is wrong; the
        others end.
    """
    found = launched()
    if found is None:
        for name, value in options.items():
            if value != DEFAULTS[name]:
                option = f"--{name.replace('_', '-')}"
                raise MinetError(f"{option} is for training with mpiexec", "mpiexec -n 2 minet train ...")
        return None
    rank, size = found
    # Open MPI would sum in place by a tree, in which rank 0 sends the more the more ranks there are.
    os.environ.setdefault("OMPI_MCA_coll_libnbc_iallreduce_algorithm", RABENSEIFNER)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py raises RuntimeError if it finds no MPI library
        what = f"the launcher started {size} processes, and MPI is missing: {error}"
        raise _told_once(rank, what, INSTALL) from None
    world = MPI.COMM_WORLD
    if world.size != size:
        known = f"the launcher started {size} processes, and mpi4py knows of {world.size}"
        what = f"{known}: each would train on its own"
        library = MPI.Get_library_version().split(",")[0].split("\n")[0]
        raise _told_once(rank, what, f"use the launcher of mpi4py's MPI, {library}")
    if size == 1:
        raise MinetError(
            "the launcher started one process: there is nothing to share",
            "mpiexec -n 2 minet train ..., or minet train ... without mpiexec",
        )
    from minet.parallel.ranks import Ranks

    if (reduce := options.get("reduce", SUMS[0])) not in SUMS:
        raise _told_once(rank, f"--reduce must be {' or '.join(SUMS)}, got {reduce}", "")
    if not options.get("patience", 1.0) > 0:
        raise _told_once(rank, f"--patience must be above 0 seconds, got {options['patience']:g}", "")
    if (trace := options.get("trace")) and not trace.absolute().parent.is_dir():
        raise _told_once(rank, f"--trace {trace}: no such folder", "")
    if micro_batches > 1 and options.get("sync_batch_norm"):
        what = "--sync-batch-norm takes a batch at once, and --micro-batches parts of it one after another"
        raise _told_once(rank, what, "leave out one of them")
    return Ranks(world, micro_batches=micro_batches, **options)


def _told_once(rank: int, what: str, hint: str) -> BaseException:
    """The error in process 0; in the others, a silent end."""
    if not rank:
        return MinetError(what, hint)
    step_back(GRACE)  # the launcher ends all when the first one goes, and process 0 is to say why
    return SilentExit(2)
