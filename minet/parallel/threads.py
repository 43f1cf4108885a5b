"""How many threads a rank computes with: its share of the cores that it may use."""

from __future__ import annotations

import importlib
import os
from typing import Any


def own_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def share_of(mine: list[int], masks: list[list[int]]) -> int:
    """How many threads a process takes, so that no core has two.

    A launcher may bind each rank to cores of its own, or several to one part of the machine, or none.

    Parameters
    ----------
    mine : list of int
        The cores that it may use.
    masks : list of list of int
        Those of all ranks of its machine, its own among them.
    """
    sharing = sum(not set(mine).isdisjoint(mask) for mask in masks)
    return max(1, len(mine) // sharing)


def use_own_cores(masks: list[list[int]]) -> str:
    """Let this process compute with its share of the cores; return a note for the user."""
    numba: Any = importlib.import_module("numba")
    mine = own_cores()
    threads = min(share_of(mine, masks), int(numba.config.NUMBA_NUM_THREADS))
    numba.set_num_threads(threads)
    sharing = sum(mask == mine for mask in masks)
    many = f", {sharing} ranks on {len(mine)} cores" if sharing > len(mine) else ""
    return f"{threads} thread{'s' * (threads > 1)} each{many}"
