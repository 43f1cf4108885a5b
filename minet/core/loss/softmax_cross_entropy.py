"""SoftmaxCrossEntropy: which of K classes, for each sample or for each position of a map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from minet.core.errors import MinetError
from minet.core.layer import Array, Shape
from minet.core.loss.base import Loss
from minet.core.settings import is_real

IGNORED = -1
TOLERANCE = 1e-3  # of a sum of probabilities, which may have been float16
CHUNK = 1 << 14  # positions that the cpu computes at once: few enough for its cache
STEM = "softmax_cross_entropy"
BLOCKS, COUNTERS, THREADS = 1024, 256, 256  # most blocks on a GPU, most that count labels, threads in each


class SoftmaxCrossEntropy(Loss):
    """``-log p[label]``, averaged over the labels, with ``p = softmax(y)`` over the K classes.

    ``dy = (p - onehot(label)) / N``. The net's output, the logits, is ``(K, 1, 1)`` for one label per sample,
    or a map ``(K, P, Q)`` for one per position. Values and gradients are those of PyTorch's
    ``cross_entropy``. The labels are one of:

    - class numbers 0 .. K-1, whole numbers ``(N,)``, or ``(P, Q, N)`` for maps, for which a Dataset gives
      ``(1, P, Q, N)``. -1 is a label that is ignored: it counts neither in the loss nor in the accuracy.
    - probabilities of the classes, real numbers of y's shape ``(K, P, Q, N)``; those of a position sum to 1.
      Then the loss is ``-sum of t[k] log p[k]``, averaged over the positions.

    If all labels of a batch are ignored, the loss and dy are 0, not NaN as in PyTorch, which would stop the
    training. A logit that is not finite, be its label ignored or not, makes the loss and all of dy NaN.

    Parameters
    ----------
    smoothing : float
        The share of each target that is spread evenly over the K classes:
        ``t <- (1 - smoothing) t + smoothing / K``. From 0, and below 1.
    weights : array_like of float, (K,), optional
        What a target of each class counts. A mean over class numbers is divided by the sum of the labels'
        weights, a mean over probabilities still by the number of positions.

    References
    ----------
    C. Szegedy et al. (2016), "Rethinking the Inception Architecture for Computer Vision", section 7, for
    smoothing.
    """

    def __init__(self, smoothing: float = 0.0, weights: ArrayLike | None = None) -> None:
        if not is_real(smoothing) or not 0 <= smoothing < 1:
            found = f"smoothing must be a number from 0 to below 1, got {smoothing!r}"
            raise self.error(found, "0.1 is usual")
        self.smoothing = float(smoothing)
        self.weights = None if weights is None else self._checked(weights)

    def _checked(self, weights: ArrayLike) -> np.ndarray:
        given = np.asarray(weights)
        if given.ndim != 1 or given.dtype.kind not in "fiu" or not given.size:
            raise self.error(f"weights must be K numbers, one per class, got {given.dtype} {given.shape}")
        if not (np.isfinite(given) & (given >= 0)).all() or not given.any():
            bad = np.flatnonzero(~(np.isfinite(given) & (given >= 0)))
            which = f"{given[bad[0]]} for class {bad[0]}" if bad.size else "0 for all classes"
            found = f"weights must be finite, none below 0 and not all of them 0, got {which}"
            raise self.error(found, "a class with weight 0 is learned from no label")
        kept = given.astype(np.float64)
        kept.flags.writeable = False  # a GPU has a copy
        return kept

    def on(self, be: Any) -> Self:
        other = super().on(be)
        if self.weights is not None:
            other.s["weights"] = be.array(self.weights)
        return other

    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        labels, (K, *area) = np.asarray(labels), out_shape
        single = tuple(area) == (1, 1)
        if self.weights is not None and len(self.weights) != K:
            found = f"there are {len(self.weights)} weights for {K} classes, an output of {tuple(out_shape)}"
            raise self.error(found, "give one weight per class")
        if labels.shape == (batch,) and not single:
            raise MinetError(
                f"SoftmaxCrossEntropy needs an output of shape (K, 1, 1), got {tuple(out_shape)}",
                "end the net with Linear(classes), or with AvgPool() over the whole map; or give each "
                f"position a label, {(*area, batch)}",
            )
        if _are_probabilities(labels) and labels.shape == (*out_shape, batch):
            _check_probabilities(labels)
            return
        whole = labels.dtype.kind in "iu"
        maps = () if single and not whole else ((*area, batch), (1, *area, batch))
        if labels.shape not in (*maps, (batch,)):
            raise MinetError(_wrong_shape(labels, single, (*out_shape, batch)), _hint(labels, batch))
        if not whole:
            raise MinetError(f"labels must be integers, got {labels.dtype}", "use labels.astype(int)")
        if labels.min() < IGNORED or labels.max() >= K:
            at = tuple(int(i) for i in np.argwhere((labels < IGNORED) | (labels >= K))[0])
            raise MinetError(
                f"label {labels[at]} at index {at[0] if len(at) == 1 else at} is not one of the {K} classes "
                f"0 .. {K - 1}",
                "the net's output needs one channel per class; classes count from 0, and -1 is ignored",
            )

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        if not np.isfinite(y).all():
            if dy is not None:
                dy.fill(np.nan)
            return float("nan")
        K, over = len(y), self.count(labels, "loss") or np.inf  # of nothing, the loss is 0
        logits, targets = y.reshape(K, -1), _flat(labels, K)
        losses = np.empty(logits.shape[1])
        for start in range(0, len(losses), CHUNK):
            part = np.s_[..., start : start + CHUNK]
            # In float64, differences of the largest float32 logits stay finite.
            p = logits[part].astype(np.float64)
            p -= p.max(axis=0)
            wanted = self._wanted(targets[part], K)
            weight, at_wanted = wanted.sum(axis=0), np.einsum("km,km->m", wanted, p)
            np.exp(p, out=p)
            total = p.sum(axis=0)
            losses[part] = weight * np.log(total) - at_wanted
            if dy is not None:
                p /= total
                p *= weight
                p -= wanted
                dy.reshape(K, -1)[part] = p / over
        return float(losses.sum() / over)

    def _wanted(self, targets: np.ndarray, K: int) -> np.ndarray:
        """Each class's part ``weight * target`` of the positions' losses, (K, positions)."""
        if targets.ndim == 2:
            wanted, known = targets.astype(np.float64), None
        else:
            known = np.flatnonzero(targets != IGNORED)
            wanted = np.zeros((K, len(targets)))
            wanted[targets[known], known] = 1
        if self.smoothing:
            wanted *= 1 - self.smoothing
            wanted[:, slice(None) if known is None else known] += self.smoothing / K
        if self.weights is not None:
            wanted *= self.weights[:, np.newaxis]
        return wanted

    def count(self, labels: np.ndarray, name: str) -> float:
        if _are_probabilities(labels):
            return float(labels[0].size)
        if name != "loss" or self.weights is None:
            return float(np.count_nonzero(labels != IGNORED))
        return float(self.weights[labels[labels != IGNORED]].sum())

    def metrics(self, y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        numbers = labels.argmax(axis=0) if _are_probabilities(labels) else labels
        return {"accuracy": correct(y, numbers) / (self.count(labels, "accuracy") or 1)}

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Loss], Shape, np.ndarray]]:
        yield cls, (5, 1, 1), np.array([1, 0, 4, 2, 3, 1])
        yield cls, (2, 1, 1), np.array([1, 1, 0])
        some = np.arange(36).reshape(2, 3, 6) * 7 % 5 - 1
        shares = 1 + np.sin(np.arange(144.0)).reshape(4, 2, 3, 6)
        shares /= shares.sum(axis=0)
        yield lambda: cls(weights=(0.5, 2.0, 0.0, 1.0)), (4, 2, 3), some
        yield lambda: cls(smoothing=0.1), (4, 2, 3), some[np.newaxis]
        yield lambda: cls(0.3, [0.5, 2, 1]), (3, 1, 1), np.array([-1, 1, 0, 2, -1, 1])
        yield cls, (4, 2, 3), shares
        yield lambda: cls(0.2, (0.5, 2.0, 0.0, 1.0)), (4, 2, 3), shares.astype(np.float32)

    def loss_gpu(self, y: Array, labels: np.ndarray, dy: Array | None = None) -> Array:
        K, M, soft = y.shape[0], y.size // y.shape[0], _are_probabilities(labels)
        given, weights = self.be.array(labels, "float32" if soft else "int32"), self.s.get("weights")
        flags = {"SOFT": soft, "SMOOTHED": self.smoothing > 0, "WEIGHTED": weights is not None}
        values: dict[str, Any] = {"y": y, "dy": dy, "K": K, "M": M, "weights": weights}
        values |= {"labels": None if soft else given, "targets": given if soft else None}
        values |= {"kept": 1 - self.smoothing, "spread": self.smoothing / K}
        blocks = min(BLOCKS, -(-M // THREADS))
        counters = min(COUNTERS, blocks)
        values |= {"counts": self.be.empty((counters,), "float64"), "counters": counters}
        values |= {"terms": self.be.empty((blocks,), "float64"), "blocks": blocks}

        def call(part: str, across: int) -> None:
            self.be.call_own(
                STEM, f"{STEM}_{part}", values, grid=(across, 1, 1), block=(THREADS, 1, 1),
                constants={name: 1 for name, holds in flags.items() if holds},
            )  # fmt: skip

        if not soft:  # a number from the host would be another one for each step, which cannot be replayed
            call("count", counters)
        call("loss", blocks)
        if dy is not None:
            call("spread", min(BLOCKS, -(-K * M // THREADS)))
        return values["terms"]


def correct(y: np.ndarray, labels: np.ndarray) -> int:
    """Count the labels that have the largest logit; of equal logits, the first is the answer.

    Parameters
    ----------
    y : array (K, P, Q, N) or (K, N)
    labels : array (N,) or (P, Q, N)
        Class numbers; -1 marks what does not count: an ignored label, or the padding of the last batch.
    """
    logits, labels = y.reshape(len(y), -1), np.asarray(labels).reshape(-1)
    answer = logits.argmax(axis=0)  # argmax picks a NaN, which is no answer
    known = ~np.isnan(logits[answer, np.arange(len(answer))])
    return int(np.count_nonzero((answer == labels) & known))


def _are_probabilities(labels: np.ndarray) -> bool:
    """Whether labels are probabilities (K, P, Q, N), and not class numbers (1, P, Q, N)."""
    return labels.ndim == 4 and labels.dtype.kind == "f"


def _flat(labels: np.ndarray, K: int) -> np.ndarray:
    """Probabilities (K, positions), or class numbers (positions,)."""
    return labels.reshape(K, -1) if _are_probabilities(labels) else labels.reshape(-1)


def _check_probabilities(labels: np.ndarray) -> None:
    if not labels.min() >= 0:  # nor NaN
        at = tuple(int(i) for i in np.argwhere(~(labels >= 0))[0])
        raise MinetError(
            f"probabilities must be 0 or more, got {labels[at]} at index {at}",
            "give targets, not logits; to ignore positions, give class numbers with -1",
        )
    sums = labels.sum(axis=0, dtype=np.float64)
    if not np.abs(sums - 1).max() <= TOLERANCE:
        at = tuple(int(i) for i in np.argwhere(~(np.abs(sums - 1) <= TOLERANCE))[0])
        raise MinetError(
            f"the probabilities of a position must sum to 1, but those at (row, column, sample) {at} sum to "
            f"{sums[at]:.6g}: got shape {labels.shape}",
            "turn one-hot rows into class numbers with labels.argmax(axis=1), or divide by that sum",
        )


def _wrong_shape(labels: np.ndarray, single: bool, shape: Shape) -> str:
    if single:
        wanted = f"{shape[-1]} class numbers, one per sample"
    else:
        wanted = f"{shape[1:]} class numbers, one per position and sample"
    return f"labels must be {wanted}, got shape {labels.shape}"


def _hint(labels: np.ndarray, batch: int) -> str:
    """How labels of a wrong shape may become class numbers."""
    if labels.size == batch:
        return "use labels.astype(int).ravel()"
    if labels.dtype.kind in "iu" and labels.ndim == 4 and labels.shape[0] == 1:  # maps of another size
        return f"the net must end with an output of shape (classes, {labels.shape[1]}, {labels.shape[2]})"
    return "turn one-hot rows into class numbers with labels.argmax(axis=1)" if labels.ndim > 1 else ""
