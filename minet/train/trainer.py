"""Trainer: epochs of training steps, a test after each, and callbacks that watch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.finite import NotFiniteError
from minet.core.loss import correct
from minet.core.net import Net
from minet.core.settings import is_whole
from minet.data.dataset import DataError, Dataset


@dataclass
class Result:
    """The result of a training run.

    Attributes
    ----------
    history : list of dict
        One per epoch: epoch (from 1), step, loss (mean over the epoch's steps), test_loss, accuracy (of
        the test set, 0 to 1), rate, seconds and images_per_second (of the steps, without the test).
    seconds : float
        Total duration of `fit`.
    """

    history: list[dict[str, Any]]
    seconds: float

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch."""
        return float(self.history[-1]["accuracy"])


class Callback:
    """Hooks into a training run; override the ones you need. An error raised in a hook ends the run."""

    def on_start(self, trainer: Trainer) -> None:
        """Called before the first epoch."""

    def on_batch(self, trainer: Trainer, loss: float) -> None:
        """Called after each step, with the batch's mean loss."""

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Called after each epoch and its test, with the record added to ``trainer.history``."""

    def on_end(self, trainer: Trainer, result: Result) -> None:
        """Called after the last epoch."""

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        """Called when an error, or the user, ends the run; the error is raised again afterwards."""


class Trainer:
    """Train a net on one data set, and test it on another after each epoch.

    The order of the images depends on (net.seed, epoch), and what layers draw on (net.seed, step). With the
    same parameters, velocities, `epoch` and step, a resumed run is bit for bit like an uninterrupted one.

    Parameters
    ----------
    net : Net
        Must have a loss.
    solver : SGD
    train, test : Dataset
    epochs : int
    callbacks : iterable of Callback

    Attributes
    ----------
    epoch : int
        Epochs done.
    history : list of dict
        As in `Result`.

    Raises
    ------
    MinetError
        If data, net and batch size do not fit together.
    """

    def __init__(
        self,
        net: Net,
        solver: Any,
        train: Dataset,
        test: Dataset,
        epochs: int,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        from minet.data.batches import Batches  # here, as it imports Numba: `import minet` stays fast

        if net.loss is None:
            raise MinetError("this net has no loss to train with", "Net(..., loss=SoftmaxCrossEntropy())")
        if not is_whole(epochs) or epochs < 1:
            raise MinetError(f"epochs must be a whole number of at least 1, got {epochs!r}")
        for data in (train, test):
            check_data(data, net)
        self.net, self.solver, self.test, self.epochs = net, solver, test, epochs
        self.batches = Batches(train, net.batch, seed=net.seed, dtype=net.be.dtype)
        self.callbacks = list(callbacks)
        self.epoch = 0
        self.history: list[dict[str, Any]] = []

    def fit(self) -> Result:
        """Train until `epochs` epochs are done in total."""
        begin = time.perf_counter()
        try:
            self._call("on_start")
            while self.epoch < self.epochs:
                record = self._train_epoch()
                self.history.append(record)
                self._call("on_epoch", record)
            result = Result(self.history, time.perf_counter() - begin)
            self._call("on_end", result)
        except BaseException as error:
            self._call("on_error", error)
            raise
        return result

    def _train_epoch(self) -> dict[str, Any]:
        begin, losses = time.perf_counter(), 0.0
        for i, (x, labels) in enumerate(self.batches.epoch(self.epoch)):
            self.solver.epoch = self.epoch + i / len(self.batches)
            loss = self.net.train_step(x, labels, self.solver)
            losses += loss
            self._call("on_batch", loss)
        seconds = time.perf_counter() - begin
        self.epoch += 1
        test_loss, accuracy = evaluate(self.net, self.test)
        if not math.isfinite(test_loss):
            raise NotFiniteError(
                f"the test loss is {test_loss} after epoch {self.epoch}", "lower the learning rate"
            )
        return {
            "epoch": self.epoch,
            "step": self.net.clock.step,
            "loss": losses / len(self.batches),
            "test_loss": test_loss,
            "accuracy": accuracy,
            "rate": self.solver.rate,
            "seconds": seconds,
            "images_per_second": len(self.batches) * self.net.batch / seconds,
        }

    def _call(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *args)


def evaluate(net: Net, data: Dataset) -> tuple[float, float]:
    """The mean loss and the accuracy (0 to 1) of a net on a data set."""
    from minet.data.batches import Batches

    losses, right = 0.0, 0
    with np.errstate(all="ignore"):  # an overflow shows in the loss
        for x, labels in Batches(data, net.batch, train=False, dtype=net.be.dtype).epoch(0):
            real = labels >= 0  # -1 marks the images that fill up the last batch
            y, labels = net.be.get(net.fprop(x))[..., real], labels[real]
            losses += net.loss.loss_cpu(y, labels) * len(labels)
            right += correct(y, labels)
    return losses / len(data), right / len(data)


def check_data(data: Dataset, net: Net) -> None:
    """Raise DataError unless the images and labels fit the net."""
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
    try:
        net.loss.check(data.labels, net.output_shape, len(data))
    except MinetError as error:
        raise DataError(f"{data.name}: {error.message}", error.hint) from error
