"""More of the zoo: losses, correct ones and each with one mistake; `breaks` and `also` are as in zoo.py."""

from __future__ import annotations

import numpy as np

from minet import Loss, MinetError
from minet.core.layer import Shape


class Specimen(Loss):
    """A loss for the kit to judge: of targets, if nothing else is said."""

    breaks: str = ""
    also: tuple[str, ...] = ()

    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        if np.shape(labels) != (*out_shape, batch):
            raise MinetError("targets must have y's shape")


# -- correct ----------------------------------------------------------------------------------------


class SmoothL1(Specimen):
    """Quadratic near 0, linear beyond 1; without examples of its own."""

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        away = y - labels
        if dy is not None:
            dy[...] = np.clip(away, -1, 1) / y.size
        size = np.abs(away)
        return float(np.where(size < 1, 0.5 * away**2, size - 0.5).mean())


class Logits(Specimen):
    """Softmax and cross-entropy of class numbers."""

    def check(self, labels: np.ndarray, out_shape: Shape, batch: int) -> None:
        if np.shape(labels) != (batch,) or labels.dtype.kind != "i":
            raise MinetError("labels must be class numbers")

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        logits = self.shifted(y.reshape(len(y), -1))
        total, n = np.exp(logits).sum(axis=0), np.arange(logits.shape[1])
        if dy is not None:
            p = np.exp(logits) / total
            p[labels, n] -= 1
            dy[...] = (p / len(n)).reshape(y.shape)
        return float((np.log(total) - logits[labels, n]).mean())

    def shifted(self, logits: np.ndarray) -> np.ndarray:
        return logits - logits.max(axis=0)


class Probabilities(Specimen):
    """Binary cross-entropy of probabilities, y between 0 and 1."""

    domain = (0.0, 1.0)

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        if dy is not None:
            dy[...] = ((1 - labels) / (1 - y) - labels / y) / y.size
        return float(-(labels * np.log(y) + (1 - labels) * np.log(1 - y)).mean())


class Rates(Specimen):
    """Poisson's likelihood of rates, y above 0."""

    domain = (0.0, np.inf)

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        if dy is not None:
            dy[...] = (1 - labels / y) / y.size
        return float((y - labels * np.log(y)).mean())


# -- broken -----------------------------------------------------------------------------------------


class AnyProbabilities(Probabilities):
    """Does not say that y is a probability."""

    domain = (-np.inf, np.inf)
    breaks = "finite"
    also = ("gradient",)


class Added(SmoothL1):
    """Adds to dy."""

    breaks = "dy_written"
    also = ("gradient",)

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        mine = np.zeros_like(y)
        loss = super().loss_cpu(y, labels, mine)
        if dy is not None:
            dy += mine
        return loss


class Renamed(SmoothL1):
    """Names the result dy, and writes nothing."""

    breaks = "dy_written"
    also = ("gradient",)

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        if dy is not None:
            dy = np.zeros_like(y)
        return super().loss_cpu(y, labels, dy)


class LabelsCentred(SmoothL1):
    """Subtracts in the labels' own memory."""

    breaks = "untouched"
    also = ("batch_sizes",)

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        labels -= labels.mean()
        labels *= 0.5
        return super().loss_cpu(y, labels, dy)


class OnlyWithDy(SmoothL1):
    """Halves the loss where no dy is asked for."""

    breaks = "optional_dy"
    also = ("gradient",)

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        return super().loss_cpu(y, labels, dy) * (0.5 if dy is None else 1.0)


class DyTwice(SmoothL1):
    """dy is twice too large."""

    breaks = "gradient"

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        loss = super().loss_cpu(y, labels, dy)
        if dy is not None:
            dy *= 2
        return loss


class SumOfSamples(SmoothL1):
    """A sum over the batch, not a mean."""

    breaks = "batch_sizes"

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        loss = super().loss_cpu(y, labels, dy) * y.shape[-1]
        if dy is not None:
            dy *= y.shape[-1]
        return loss


class HalfLoss(SmoothL1):
    """Takes the difference in float16."""

    breaks = "float32"

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        rounded = y.astype(np.float16).astype(y.dtype) if y.dtype == np.float32 else y
        return super().loss_cpu(rounded, labels, dy)


class NotShifted(Logits):
    """exp without subtracting the maximum."""

    breaks = "magnitude"

    def shifted(self, logits: np.ndarray) -> np.ndarray:
        return logits


class NanDropped(SmoothL1):
    """Replaces NaN by 0, to be safe."""

    breaks = "not_finite"

    def loss_cpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        return super().loss_cpu(np.nan_to_num(y), labels, dy)


class OtherOnGpu(SmoothL1):
    """loss_gpu forgets the linear part."""

    breaks = "parity_emu"

    def loss_gpu(self, y: np.ndarray, labels: np.ndarray, dy: np.ndarray | None = None) -> float:
        away = self.be.get(y) - labels
        if dy is not None:
            self.be.copy((away / y.size).astype("float32"), dy)
        return float((0.5 * away**2).mean())


RIGHT = (SmoothL1, Logits, Probabilities, Rates)
BROKEN = [cls for cls in list(globals().values()) if getattr(cls, "breaks", "")]
