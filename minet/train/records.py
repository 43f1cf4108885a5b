"""The record of an epoch: which numbers a run measures by itself, and which are metrics of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from minet.core.errors import MinetError
from minet.core.settings import is_real, is_whole

RECORDED = ("epoch", "step", "loss", "rate", "seconds", "images_per_second")  # of every epoch
TESTED = ("test_loss",)  # and with a test set, beside the metrics


def metrics_in(record: dict[str, Any]) -> list[str]:
    """The names of an epoch's metrics, in the order in which the loss gave them."""
    return [name for name in record if name not in (*RECORDED, *TESTED)]


@dataclass
class Within:
    """Where in an epoch a run is.

    Attributes
    ----------
    batches : int
        Steps done of the epoch under way.
    losses : float
        The sum of their losses.
    seconds : float
        What they took.
    """

    batches: int = 0
    losses: float = 0.0
    seconds: float = 0.0

    @classmethod
    def of(cls, fact: dict[str, Any]) -> Within:
        """From a checkpoint, which may come from anywhere; ValueError if minet cannot have written it."""
        batches: Any
        losses: Any
        seconds: Any
        batches, losses, seconds = (fact.get(name) for name in ("batches", "losses", "seconds"))
        if not (is_whole(batches) and batches >= 0 and is_real(losses) and is_real(seconds)):
            raise ValueError
        return cls(batches, losses, seconds)


def place(epoch: int, batches: int, of: int) -> str:
    """Where a run is, in words: after ``epoch 2``, or after ``17 of 45 batches of epoch 3``."""
    return f"{batches} of {of} batches of epoch {epoch + 1}" if batches else f"epoch {epoch}"


@dataclass(frozen=True)
class Watched:
    """Which number of the epochs' records is watched, and when one epoch is better than another.

    Parameters
    ----------
    metric : str, optional
        Its name in a record. By default accuracy, or the test loss if the loss measures no accuracy, or
        without a test the training loss.
    larger : bool, optional
        Whether larger is better; by default, whether the name ends in "accuracy".
    """

    metric: str | None = None
    larger: bool | None = None

    def name(self, record: dict[str, Any]) -> str:
        """The name of the number in this record."""
        names = [self.metric] if self.metric else ["accuracy", *TESTED, "loss"]
        found = next((name for name in names if name in record), None)
        if found is None:
            raise MinetError(f"an epoch's record has no {self.metric!r}", f"it has {', '.join(record)}")
        return found

    def better(self, record: dict[str, Any], best: float | None, least: float = 0.0) -> bool:
        """Whether a record is better than the best so far, by more than `least`."""
        name = self.name(record)
        if best is None or math.isnan(record[name]):
            return best is None and not math.isnan(record[name])
        larger = name.endswith("accuracy") if self.larger is None else self.larger
        gain = record[name] - best if larger else best - record[name]
        return bool(gain > least)


def title(key: str) -> str:
    """What a key of a record stands for: ``test accuracy`` for accuracy."""
    return f"test {key}" if key not in RECORDED + TESTED else key.replace("_", " ")
