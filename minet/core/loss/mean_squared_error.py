"""MeanSquaredError: ``(y - target)^2``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from minet.core.layer import Array, Shape
from minet.core.loss.base import Loss, by_elements, check_targets


class MeanSquaredError(Loss):
    """``(y - target)^2``, averaged over the batch and over all elements of a sample.

    ``dy = 2 (y - target) / y.size``. The labels are targets of y's shape, ``(K, P, Q, N)``.
    """

    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        check_targets(labels, out_shape, batch)

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
        return by_elements(self, y, labels, dy)
