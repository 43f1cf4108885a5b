"""Huber: quadratic near the target, linear far from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from minet.core.layer import Array, Shape
from minet.core.loss.base import Loss, by_elements, check_targets
from minet.core.settings import is_real


class Huber(Loss):
    """``d^2 / 2`` where ``|d| <= delta``, else ``delta (|d| - delta/2)``, with ``d = y - target``.

    Averaged over the batch and over all elements of a sample. ``dy = d / y.size``, with d clipped to
    ``-delta .. delta``: a target that is far off pulls no harder than one at a distance of delta. The labels
    are targets of y's shape, ``(K, P, Q, N)``.

    Parameters
    ----------
    delta : float
        Where the quadratic part ends, in units of y; above 0.

    References
    ----------
    P. J. Huber (1964), "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35(1).
    """

    def __init__(self, delta: float = 1.0) -> None:
        if not is_real(delta) or delta <= 0:
            raise self.error(f"delta must be a finite number above 0, got {delta!r}", "Huber(delta=1.0)")
        self.delta = float(delta)

    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        check_targets(labels, out_shape, batch)

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # the caller handles a loss that is not finite
            # In float64, in which neither differences nor squares of float32 numbers overflow.
            difference = np.subtract(y, labels, dtype=np.float64)
            near = np.clip(difference, -self.delta, self.delta)
            if dy is not None:
                np.divide(near, y.size, out=dy, casting="same_kind")
            return float(np.mean(near * (difference - 0.5 * near)))

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Loss], Shape, np.ndarray]]:
        yield cls, (3, 2, 4), 3 * np.sin(np.arange(144.0)).reshape(3, 2, 4, 6)
        yield lambda: cls(0.25), (2, 1, 1), np.array([[0.5, -2.0, 3.0], [1, 0, -1]]).reshape(2, 1, 1, 3)
        yield lambda: cls(delta=20.0), (1, 1, 1), np.array([[[[0.5, -2.0, 3.0]]]], np.float32)

    def loss_gpu(self, y: Array, labels: np.ndarray, dy: Array | None = None) -> Array:
        return by_elements(self, y, labels, dy, delta=self.delta)
