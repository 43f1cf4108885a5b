"""Loss, the base class of losses, and what those of targets have in common."""

from __future__ import annotations

import contextlib
import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array, Shape
from minet.core.node import Named, Node

SHARES = 1 << 13  # parts of a sum over elements on a GPU, one thread each


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

    def count(self, labels: np.ndarray, name: str) -> float:
        """How many a batch's mean is over: the weight with which it enters the mean of a whole test.

        Parameters
        ----------
        labels : array
            The batch's, or those of a whole data set.
        name : str
            "loss", or the name of one of the metrics.

        Returns
        -------
        float
            The number of samples, if the loss says nothing else, as one that ignores some labels must.
        """
        return float(np.shape(labels)[-1])


def number(loss: Node, found: Any, what: str = "the loss") -> float:
    """What a method of a loss has returned; raises LayerError unless it is a number."""
    if type(found) is float:
        return found
    with contextlib.suppress(TypeError):  # of None, a list and so on
        if not (isinstance(found, str) or np.iscomplexobj(found) or np.ndim(found)):
            return float(found)
    raise loss.error(f"{what} is {found!r:.60}, not a number", "return float(...)")


def check_targets(labels: np.ndarray, out_shape: Shape, batch: int) -> None:
    """Raise MinetError unless the labels are real numbers of the output's shape."""
    labels, wanted = np.asarray(labels), (*out_shape, batch)
    if labels.shape != wanted:
        if labels.shape == (batch,):
            hint = "whole numbers (M,) are classes: give the Dataset targets.astype(float), one per sample"
        elif labels.ndim == 4 and labels.shape[-1] == batch:
            hint = f"the net must end with an output of shape {labels.shape[:-1]}"
        else:
            hint = "for targets in NCHW order: np.ascontiguousarray(targets.transpose(1, 2, 3, 0))"
        message = f"targets must have the output's shape (K, P, Q, N) = {wanted}, got {labels.shape}"
        raise MinetError(message, hint)
    if labels.dtype.kind not in "fiu":
        raise MinetError(f"targets must be real numbers, got {labels.dtype}")


def by_elements(loss: Loss, y: Array, labels: np.ndarray, dy: Array | None, **settings: float) -> Array:
    """Launch the kernel ``<stem>_loss`` of a loss that is a mean over the elements; return its terms."""
    shares = min(SHARES, y.size)
    values = {"y": y, "target": loss.be.array(labels), "dy": dy, "shares": shares, "size": y.size}
    values["terms"] = loss.be.empty((shares,), "float64")
    stem = loss.stem()
    loss.be.call_own(stem, f"{stem}_loss", {**values, **settings}, shares)
    return values["terms"]
