"""Trainer: epochs of training steps, a test after each, and callbacks that watch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from minet.core.blame import blaming
from minet.core.errors import MinetError
from minet.core.finite import NotFiniteError
from minet.core.loss import Loss
from minet.core.net import Net
from minet.core.settings import is_whole
from minet.core.step import Started
from minet.data.dataset import DataError, Dataset
from minet.train.records import RECORDED, TESTED
from minet.train.solver import Solver, lacking


@dataclass
class Result:
    """The result of a training run.

    Attributes
    ----------
    history : list of dict
        One per epoch: epoch (from 1), step, loss (mean over the epoch's steps), rate, seconds and
        images_per_second (of the steps, without the test). With a test set also test_loss and the loss's
        metrics, such as accuracy (0 to 1).
    seconds : float
        Total duration of `fit`.
    """

    history: list[dict[str, Any]]
    seconds: float

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch; an error if the loss does not measure it, or without a test."""
        last = self.history[-1]
        if "accuracy" not in last:
            raise MinetError("this run measured no accuracy", f"history[-1] has {', '.join(last)}")
        return float(last["accuracy"])

    def _repr_svg_(self) -> str:
        """The curves, in a notebook."""
        from minet.train import plots  # here, as it is slow to import

        return plots.as_svg(plots.curves(self.history))


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
    """Train a net on one data set and, if there is another, test it on that after each epoch.

    The order of the images depends on (net.seed, epoch), and what layers draw on (net.seed, step). With the
    same parameters, solver's state, `epoch` and step, a resumed run is bit for bit like an uninterrupted one.

    Parameters
    ----------
    net : Net
        Must have a loss.
    solver : Solver
        Such as SGD or Adam.
    train : Dataset
    test : Dataset, optional
    epochs : int
    callbacks : iterable of Callback

    Attributes
    ----------
    epoch : int
        Epochs done.
    history : list of dict
        As in `Result`.
    untested : dict, optional
        The record of an epoch whose test is still to be done, in a run that was stopped then.

    Raises
    ------
    MinetError
        If data, net and batch size do not fit together.
    """

    def __init__(
        self,
        net: Net,
        solver: Solver,
        train: Dataset,
        test: Dataset | None = None,
        epochs: int = 1,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        from minet.data.batches import Batches  # here, as it imports Numba: `import minet` stays fast

        if net.loss is None:
            raise MinetError("this net has no loss to train with", "Net(..., loss=SoftmaxCrossEntropy())")
        if not is_whole(epochs) or epochs < 1:
            raise MinetError(f"epochs must be a whole number of at least 1, got {epochs!r}")
        if lacks := lacking(solver):
            raise MinetError(f"{solver!r:.60} is not a solver: it has no {', '.join(lacks)}", "SGD(lr=0.05)")
        check_data(train, net)
        if test is not None:
            check_data(test, net)
        self.net, self.solver, self.test, self.epochs = net, solver, test, epochs
        self.batches = Batches(train, net.batch, seed=net.seed, dtype=net.be.dtype)
        self.callbacks = list(callbacks)
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.untested: dict[str, Any] | None = None

    def fit(self) -> Result:
        """Train until `epochs` epochs are done in total."""
        begin = time.perf_counter()
        try:
            self._call("on_start")
            while self.untested or self.epoch < self.epochs:
                self.untested = self.untested or self._train_epoch()
                record = self._tested(self.untested)
                self.untested = None
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
        for loss in self._steps():
            losses += loss
            self._call("on_batch", loss)
        seconds = time.perf_counter() - begin
        self.epoch += 1
        return {
            "epoch": self.epoch,
            "step": self.net.clock.step,
            "loss": losses / len(self.batches),
            "rate": self.solver.rate,
            "seconds": seconds,
            "images_per_second": len(self.batches) * self.net.batch / seconds,
        }

    def _steps(self) -> Iterator[float]:
        """Take the epoch's steps and yield their losses; on a GPU each when the next step is on its way."""
        before: Started | None = None
        for i, (x, labels) in enumerate(self.batches.epoch(self.epoch)):
            self.solver.epoch = self.epoch + i / len(self.batches)
            step: Started | None = self.net.start_step(x, labels, self.solver)
            if step is not None and step.running:
                step, before = before, step
            if step is not None:
                yield step.loss()
        if before is not None:
            yield before.loss()

    def _tested(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record with the test loss and the metrics, if there is a test set."""
        if self.test is None:
            return record
        loss, metrics = evaluate(self.net, self.test)
        if not math.isfinite(loss):
            raise NotFiniteError(
                f"the test loss is {loss} after epoch {self.epoch}", "lower the learning rate"
            )
        place = list(record).index("loss") + 1  # beside it in the log and on the screen
        numbers = list(record.items())
        return dict([*numbers[:place], ("test_loss", loss), *metrics.items(), *numbers[place:]])

    def _call(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *args)


def evaluate(net: Net, data: Dataset) -> tuple[float, dict[str, float]]:
    """The mean loss of a net on a data set, and the loss's metrics."""
    from minet.data.batches import Batches

    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    left = len(data)
    with np.errstate(all="ignore"):  # an overflow shows in the loss
        for x, labels in Batches(data, net.batch, train=False, dtype=net.be.dtype).epoch(0):
            count = min(left, net.batch)  # the others fill up the last batch
            y = np.ascontiguousarray(net.be.get(net.fprop(x))[..., :count])
            labels = np.ascontiguousarray(labels[..., :count])
            means = _measured(net.loss, y, labels)
            if sums and sums.keys() != means.keys():
                different = f"{', '.join(sums)}, later {', '.join(means)}"
                raise net.loss.error(f"metrics returned {different}", "return the same names for any batch")
            for name, mean in means.items():
                over = net.loss.count(labels, name)
                sums[name] = sums.get(name, 0.0) + mean * over
                counts[name] = counts.get(name, 0.0) + over
            left -= count
    means = {name: total / (counts[name] or 1) for name, total in sums.items()}
    return means.pop("loss"), means


def _measured(loss: Loss, y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mean loss of a batch and its metrics, by name."""
    with blaming():
        mean, metrics = loss.loss_cpu(y, labels), loss.metrics(y, labels)
    if not isinstance(metrics, dict) or not all(isinstance(value, Real) for value in metrics.values()):
        raise loss.error(f"metrics returned {metrics!r:.80}, not numbers by name", 'return {"name": mean}')
    if taken := [name for name in metrics if name in (*RECORDED, *TESTED)]:
        raise loss.error(f"metrics returned {taken[0]!r}, which a run records itself", "choose another name")
    return {"loss": mean, **{name: float(value) for name, value in metrics.items()}}


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
    labels = np.moveaxis(data.labels, 0, -1)
    try:
        net.loss.check(labels, net.output_shape, len(data))
    except MinetError as error:
        raise DataError(f"{data.name}: {error.message}", error.hint) from error
    if not net.loss.count(labels, "loss"):
        raise DataError(f"{data.name}: the loss ignores every label", "-1 marks those to be ignored")
