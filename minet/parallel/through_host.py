"""Gradients on a card: summed where they are if the MPI can, else by way of page-locked host memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from minet.parallel.buckets import Bucket


class Staged:
    """A bucket on a card, and where MPI reads it.

    Parameters
    ----------
    be : Backend
    bucket : Bucket
    aware : bool
        Whether MPI reads the card's memory.
    """

    def __init__(self, be: Any, bucket: Bucket, aware: bool) -> None:
        self.be, self.there, self.aware = be, bucket.values, aware
        host = bucket.values if aware else be.drv.pagelocked_empty(bucket.values.shape, bucket.values.dtype)
        self.bucket = replace(bucket, values=host)

    def leave(self) -> None:
        """Bring the gradients to where MPI reads them, and wait for it."""
        if not self.aware:
            here: Any = self.bucket.values
            self.be.drv.memcpy_dtoh_async(here, self.be.address(self.there), self.be.stream)
        self.be.stream.synchronize()

    def come_back(self) -> None:
        """Start bringing the sums to the card."""
        if not self.aware:
            here: Any = self.bucket.values
            self.be.drv.memcpy_htod_async(self.be.address(self.there), here, self.be.stream)


def staged(be: Any, buckets: list[Bucket], ordered: bool) -> list[Staged]:
    """The buckets of a card, in their order; none where gradients are in host memory."""
    if be.name != "cuda":
        return []
    aware = not ordered and cuda_aware()  # parts that are added by rank are added on the host
    return [Staged(be, bucket, aware) for bucket in buckets]


def way(be: Any, ordered: bool) -> str:
    """A note for the user about the way that gradients take from a card; empty without one."""
    if be.name != "cuda":
        return ""
    aware = not ordered and cuda_aware()
    return f"gradients {'read on the card by MPI' if aware else 'by way of page-locked host memory'}"


def cuda_aware() -> bool:
    """Whether the MPI that mpi4py is linked with reads a card's memory, as it says itself."""
    from mpi4py import MPI

    for name in ("MPIX_Query_cuda_support", "MPIX_GPU_query_support"):
        with contextlib.suppress(OSError, AttributeError):
            function: Any = getattr(ctypes.CDLL(MPI.__file__), name)
            if name == "MPIX_Query_cuda_support":
                return bool(function())
            found = ctypes.c_int(0)
            function(0, ctypes.byref(found))  # 0: MPIX_GPU_SUPPORT_CUDA
            return bool(found.value)
    return False


def own_card(here: int) -> None:
    """Let this process see one card alone, before anything else looks for one."""
    count = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if (card := visible_card(here, os.environ.get("CUDA_VISIBLE_DEVICES"), count)) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = card


def visible_card(here: int, devices: str | None, count: int) -> str | None:
    """What CUDA_VISIBLE_DEVICES is to be for a rank, so that each on a machine has a card of its own.

    Parameters
    ----------
    here : int
        Which rank of this machine it is.
    devices : str, optional
        What the variable is now.
    count : int
        How many cards the machine has.
    """
    known = list(map(str, range(count))) if devices is None else [name for name in devices.split(",") if name]
    return known[here % len(known)] if known else None
