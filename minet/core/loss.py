"""Losses, which training makes small, and the count of correct answers."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array, Shape
from minet.core.node import Named, Node

SHARES = 1 << 13  # parts of a sum of squares on a GPU, one thread each


class Loss(Node, ABC):
    """The mean loss over a batch. Subclass it and write `check` and `loss_cpu`, and `metrics` if it has any.

    `y` is the net's output ``(K, P, Q, N)``, `labels` what the loss compares it with: of a Dataset, class
    numbers ``(N,)`` or targets ``(K, P, Q, N)``. A loss that also has ``loss_gpu(y, labels, dy)`` is native
    on a GPU: y and dy are then arrays of its backend, ``self.be``. It returns the loss, or an array of its
    backend in float64 whose elements add up to it: then a step need not wait for the number.

    Attributes
    ----------
    domain : (float, float)
        The numbers between which y lies, such as (0, 1) for a loss of probabilities: the conformance kit
        draws y there.
    """

    domain: tuple[float, float] = (-math.inf, math.inf)

    def on(self, be: Any) -> Self:
        """A copy that computes on a backend: unlike a layer, one loss object may serve several nets."""
        other = copy.copy(self)
        vars(other).update(be=be, p=Named(), g=Named(), s=Named())
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("be", "p", "g", "s")}

    @abstractmethod
    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        """Raise MinetError if the labels do not fit a net with output `out_shape` and that batch size."""

    @abstractmethod
    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        """The mean loss over the batch; if `dy` is given, ``dy <- d loss / d y``, whatever it held before."""

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Loss], Shape, np.ndarray]]:
        """Triples ``(make, out_shape, labels)`` on which the conformance kit tests the class.

        `labels` are those of a batch, whose first samples serve as smaller batches. A loss that declares none
        is tested on class numbers and on targets, whichever its `check` accepts.
        """
        raise NotImplementedError(f"{cls.__name__} has no examples() for the conformance kit")

    def metrics(self, y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """What else a test measures, by name: each a mean over these N samples.

        A run's log, table and curves show these. A share in 0 .. 1 whose name ends in "accuracy" is shown in
        percent.
        """
        return {}


class SoftmaxCrossEntropy(Loss):
    """``-log p[label]``, averaged over the batch, with ``p = softmax(y)`` over the K classes.

    ``dy = (p - onehot(label)) / N``. The net's output, the logits, is ``(K, 1, 1)``, not a map; labels are N
    class numbers in 0 .. K-1. A logit that is not finite makes the loss and all of dy NaN.
    """

    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        labels = np.asarray(labels)
        if tuple(out_shape[1:]) != (1, 1):
            raise MinetError(
                f"SoftmaxCrossEntropy needs an output of shape (K, 1, 1), got {tuple(out_shape)}",
                "end the net with Linear(classes), or with AvgPool() over the whole map",
            )
        if labels.shape != (batch,):
            hint = ""
            if labels.size == batch:
                hint = "use labels.astype(int).ravel()"
            elif labels.ndim > 1:
                hint = "turn one-hot rows into class numbers with labels.argmax(axis=1)"
            raise MinetError(
                f"labels must be {batch} class numbers, one per sample, got shape {labels.shape}", hint
            )
        if labels.dtype.kind not in "iu":
            raise MinetError(f"labels must be integers, got {labels.dtype}", "use labels.astype(int)")
        bad = np.flatnonzero((labels < 0) | (labels >= out_shape[0]))
        if bad.size:
            raise MinetError(
                f"label {labels[bad[0]]} at index {bad[0]} is not one of the {out_shape[0]} classes "
                f"0 .. {out_shape[0] - 1}",
                "the net's output needs one channel per class; classes count from 0",
            )

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        if not np.isfinite(y).all():
            if dy is not None:
                dy.fill(np.nan)
            return float("nan")
        # K*N is small: float64 costs nothing, and differences of the largest float32 logits stay finite.
        p = y.reshape(len(y), -1).astype(np.float64)
        p -= p.max(axis=0)
        samples = np.arange(p.shape[1])
        at_label = p[labels, samples]
        np.exp(p, out=p)
        total = p.sum(axis=0)
        if dy is not None:
            p /= total
            p[labels, samples] -= 1
            dy[...] = (p / len(samples)).reshape(dy.shape)
        return float(np.mean(np.log(total) - at_label))

    def metrics(self, y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return {"accuracy": correct(y, labels) / len(labels)}

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Loss], Shape, np.ndarray]]:
        yield cls, (5, 1, 1), np.array([1, 0, 4, 2, 3, 1])
        yield cls, (2, 1, 1), np.array([1, 1, 0])

    def loss_gpu(self, y: Array, labels: np.ndarray, dy: Array | None = None) -> Array:
        K, N = y.shape[0], y.shape[3]
        values = {"y": y, "labels": self.be.array(labels, "int32"), "dy": dy, "K": K, "N": N}
        values |= {"terms": self.be.empty((N,), "float64"), "size": K * N}
        self.be.call_own("softmax_cross_entropy", "softmax_cross_entropy_loss", values, N)
        if dy is not None:
            self.be.call_own("softmax_cross_entropy", "softmax_cross_entropy_spread", values, K * N)
        return values["terms"]


class MeanSquaredError(Loss):
    """``(y - target)^2``, averaged over the batch and over all elements of a sample.

    ``dy = 2 (y - target) / y.size``. The labels are targets of y's shape, ``(K, P, Q, N)``.
    """

    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        labels, wanted = np.asarray(labels), (*out_shape, batch)
        if labels.shape != wanted:
            if labels.shape == (batch,):
                hint = (
                    "whole numbers (M,) are classes: give the Dataset targets.astype(float), one per sample"
                )
            elif labels.ndim == 4 and labels.shape[-1] == batch:
                hint = f"the net must end with an output of shape {labels.shape[:-1]}"
            else:
                hint = "for targets in NCHW order: np.ascontiguousarray(targets.transpose(1, 2, 3, 0))"
            message = f"targets must have the output's shape (K, P, Q, N) = {wanted}, got {labels.shape}"
            raise MinetError(message, hint)
        if labels.dtype.kind not in "fiu":
            raise MinetError(f"targets must be real numbers, got {labels.dtype}")

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # the caller handles a loss that is not finite
            difference = y - labels
            if dy is not None:
                np.multiply(difference, 2 / y.size, out=dy, casting="same_kind")
            return float(np.mean(np.square(difference, dtype=np.float64)))

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Loss], Shape, np.ndarray]]:
        yield cls, (3, 2, 4), np.sin(np.arange(144.0)).reshape(3, 2, 4, 6)
        yield cls, (1, 1, 1), np.array([[[[0.5, -2.0, 3.0]]]], np.float32)

    def loss_gpu(self, y: Array, labels: np.ndarray, dy: Array | None = None) -> Array:
        shares = min(SHARES, y.size)
        values = {"y": y, "target": self.be.array(labels), "dy": dy, "shares": shares, "size": y.size}
        values["terms"] = self.be.empty((shares,), "float64")
        self.be.call_own("mean_squared_error", "mean_squared_error_loss", values, shares)
        return values["terms"]


def correct(y: np.ndarray, labels: np.ndarray) -> int:
    """Count the samples whose label has the largest logit; of equal logits, the first is the answer.

    Parameters
    ----------
    y : array (K, 1, 1, N) or (K, N)
    labels : array (N,)
        Class numbers; -1 marks a sample that does not count, such as padding of the last batch.
    """
    logits = y.reshape(len(y), -1)
    answer = logits.argmax(axis=0)  # argmax picks a NaN, which is no answer
    known = ~np.isnan(logits[answer, np.arange(len(answer))])
    return int(np.count_nonzero((answer == labels) & known))
