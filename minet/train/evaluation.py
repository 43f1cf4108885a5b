"""The test of a net: its loss and metrics on a data set, and whether the two fit together."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from minet.core.blame import blaming
from minet.core.errors import MinetError
from minet.core.loss.base import Loss, number
from minet.core.net import Net
from minet.data.dataset import DataError, Dataset
from minet.train.alone import Alone
from minet.train.records import RECORDED, TESTED


def evaluate(net: Net, data: Dataset, ranks: Any = None) -> tuple[float, dict[str, float]]:
    """The mean loss of a net on a data set, and the loss's metrics.

    With `ranks`, as a Trainer gives them, each takes its share of data that has been checked.
    """
    from minet.data.batches import Batches

    if ranks is None:
        check_data(data, net)
    ranks = ranks or Alone()
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    batches = Batches(data, net.batch, train=False, dtype=net.be.dtype, share=(ranks.rank, ranks.size))
    left = len(data) - ranks.rank * net.batch
    with np.errstate(all="ignore"):  # an overflow shows in the loss
        for x, labels in batches.epoch(0):
            count = min(left, net.batch)  # the others fill up the last batch
            left -= batches.whole
            if count <= 0:
                continue
            labels = np.ascontiguousarray(labels[..., :count])
            with net.lock:
                y = np.ascontiguousarray(net.be.get(net.fprop(x))[..., :count])
                means = _measured(net.loss, y, labels)
            if sums and sums.keys() != means.keys():
                different = f"{', '.join(sums)}, later {', '.join(means)}"
                raise net.loss.error(f"metrics returned {different}", "return the same names for any batch")
            for name, mean in means.items():
                over = _counted(net.loss, labels, name)
                sums[name] = sums.get(name, 0.0) + mean * over
                counts[name] = counts.get(name, 0.0) + over
    sums, counts = ranks.added(sums), ranks.added(counts)
    means = {name: total / (counts[name] or 1) for name, total in sums.items()}
    return means.pop("loss"), means


def _measured(loss: Loss, y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mean loss of a batch and its metrics, by name."""
    with blaming():
        mean, metrics = number(loss, loss.loss_cpu(y, labels)), loss.metrics(y, labels)
    if not isinstance(metrics, dict) or not all(isinstance(value, Real) for value in metrics.values()):
        raise loss.error(f"metrics returned {metrics!r:.80}, not numbers by name", 'return {"name": mean}')
    if taken := [name for name in metrics if name in (*RECORDED, *TESTED)]:
        raise loss.error(f"metrics returned {taken[0]!r}, which a run records itself", "choose another name")
    return {"loss": mean, **{name: float(value) for name, value in metrics.items()}}


def _counted(loss: Loss, labels: np.ndarray, name: str) -> float:
    """How many labels a mean is over."""
    with blaming():
        return number(loss, loss.count(labels, name), f"count(labels, {name!r})")


def check_data(data: Dataset, net: Net) -> None:
    """Raise MinetError unless the net has a loss, and DataError unless images and labels fit the net."""
    if net.loss is None:
        raise MinetError("this net has no loss to measure", "Net(..., loss=SoftmaxCrossEntropy())")
    if not isinstance(data, Dataset):
        raise DataError(f"{data!r:.60} is not a Dataset", "data.Dataset(images, labels)")
    if data.image_shape != net.input_shape:
        channels_last = data.image_shape == (*net.input_shape[1:], net.input_shape[0])
        raise DataError(
            f"{data.name}: its images are {data.image_shape}, the net takes {net.input_shape}",
            "channels come before height and width: images.transpose(0, 3, 1, 2)"
            if channels_last
            else f"input_shape = {data.image_shape}",
        )
    labels = np.moveaxis(data.labels, 0, -1)
    try:
        with blaming():
            net.loss.check(labels, net.output_shape, len(data))
    except MinetError as error:
        raise DataError(f"{data.name}: {error.message}", error.hint) from error
    if not _counted(net.loss, labels, "loss"):
        raise DataError(f"{data.name}: the loss ignores every label", "-1 marks those to be ignored")
