"""BinaryCrossEntropy: yes or no for each element of the output."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array, Shape
from minet.core.loss.base import Loss, by_elements, check_targets


class BinaryCrossEntropy(Loss):
    """``-t log p - (1 - t) log(1 - p)``, with ``p = 1 / (1 + exp(-y))``: each element of y answers yes or no.

    Averaged over the batch and over all elements of a sample; ``dy = (p - t) / y.size``. y are logits, so the
    net needs no sigmoid at its end, and the loss stays finite for the largest of them. The labels are targets
    t in 0 .. 1, of y's shape ``(K, P, Q, N)``: several may be 1 at once. The accuracy is the share of
    elements for which ``y > 0`` and ``t > 0.5`` agree.
    """

    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        check_targets(labels, out_shape, batch)
        labels = np.asarray(labels)
        if not (labels.min() >= 0 and labels.max() <= 1):  # nor NaN
            at = tuple(int(i) for i in np.argwhere(~((labels >= 0) & (labels <= 1)))[0])
            raise MinetError(
                f"targets must lie in 0 .. 1, got {labels[at]} at index {at}",
                "1 is yes, 0 is no; MeanSquaredError and Huber take any numbers",
            )

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # the caller handles a loss that is not finite
            logits = y.astype(np.float64)
            small = np.exp(-np.abs(logits))
            if dy is not None:
                # p and 1 - p, of which one may be too close to 1 for their difference from the target.
                tail = small / (1 + small)
                dy[...] = np.where(logits > 0, (1.0 - labels) - tail, tail - labels) / y.size
            return float(np.mean(np.maximum(logits, 0) - logits * labels + np.log1p(small)))

    def metrics(self, y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        right = ((y > 0) == (labels > 0.5)) & ~np.isnan(y)  # a NaN is no answer
        return {"accuracy": float(np.mean(right))}

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Loss], Shape, np.ndarray]]:
        yield cls, (3, 2, 4), 0.5 + 0.5 * np.sin(np.arange(144.0)).reshape(3, 2, 4, 6)
        yield cls, (2, 1, 1), np.array([[0, 1, 1], [1, 0, 1]]).reshape(2, 1, 1, 3)

    def loss_gpu(self, y: Array, labels: np.ndarray, dy: Array | None = None) -> Array:
        return by_elements(self, y, labels, dy)
