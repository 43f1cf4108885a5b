"""The record of an epoch: which numbers a run measures by itself, and which are metrics of the loss."""

from __future__ import annotations

from typing import Any

RECORDED = ("epoch", "step", "loss", "rate", "seconds", "images_per_second")  # of every epoch
TESTED = ("test_loss",)  # and with a test set, beside the metrics


def metrics_in(record: dict[str, Any]) -> list[str]:
    """The names of an epoch's metrics, in the order in which the loss gave them."""
    return [name for name in record if name not in (*RECORDED, *TESTED)]
