"""Alone: what a training run asks of the processes that share it, answered for a single one.

`minet.parallel.ranks.Ranks` answers for several.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from minet.core.step import Steps
from minet.train.micro_batches import MicroSteps, checked_count, micro_batch

T = TypeVar("T")


class Alone:
    """A run in one process.

    Parameters
    ----------
    micro_batches : int
        In how many parts, one after another, each batch is computed; the net's batch is one of them.

    Attributes
    ----------
    rank : int
        Which of the processes this one is; number 0 writes the run's files and talks to the user.
    size : int
        How many there are.
    here : int
        Which one of those on this machine it is.
    """

    rank, size, here = 0, 1, 0

    def __init__(self, micro_batches: int = 1) -> None:
        self.micro_batches = checked_count(micro_batches)

    def share(self, batch: int) -> int:
        """How many images of a batch the net takes at once."""
        return micro_batch(batch, self.size, self.micro_batches)

    def together(self, work: Callable[[], T]) -> T:
        """Do what each process does; if it fails in one of them it fails in all, with one message."""
        return work()

    def file(self, path: Path | None) -> Path | None:
        """A file of process 0, or where this process has a copy of it."""
        return path

    def join(self, trainer: Any) -> None:
        """Raise if a trainer is of another run than process 0's."""

    def begin(self, trainer: Any) -> None:
        """Make a trainer's net take its share of each step, before the first one."""
        if self.micro_batches > 1:
            trainer.net.steps = MicroSteps(trainer.net, self.micro_batches)

    def ended(self, trainer: Any) -> None:
        """Give the net its own steps back, after the last one."""
        if self.micro_batches > 1:
            trainer.net.steps = Steps(trainer.net)

    def opening(self) -> str:
        """A line about the processes, for the user."""
        return f"{self.micro_batches} micro-batches a step\n" if self.micro_batches > 1 else ""

    def pausing(self, trainer: Any, last: bool = False) -> bool:
        """Whether the run pauses after the step just taken; `last` if no other follows in its epoch."""
        return bool(trainer.pausing)

    def agree(self, trainer: Any) -> bool:
        """Between steps: let running statistics and a wish to stop be those of all; whether to interrupt."""
        return bool(trainer.interrupted)

    def added(self, sums: dict[str, float]) -> dict[str, float]:
        """Sums over all processes, by name."""
        return sums

    def finish(self) -> None:
        """Called at the end of a run."""
