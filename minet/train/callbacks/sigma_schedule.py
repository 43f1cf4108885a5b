"""SigmaSchedule: the width of Gaussian pooling windows, set epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.naming import brief
from minet.core.settings import is_real
from minet.layers.gaussian_pool import GaussianPool
from minet.train.callback import Callback
from minet.train.trainer import Trainer


class SigmaSchedule(Callback):
    """Set sigma of GaussianPool layers before each epoch.

    ``GaussianPool(..., learn={"mean"})`` keeps the solver off sigma; otherwise it goes on from there.

    Parameters
    ----------
    first, last : float
        Pixels, before the first epoch and before the last one. In between sigma changes by a constant factor.
        `first` may also be a function from the number of epochs done to sigma.
    layers : str or iterable of str, optional
        Paths, such as ``"2/0"``; by default every GaussianPool of the net.
    """

    def __init__(
        self,
        first: float | Callable[[int], Any],
        last: float | None = None,
        layers: str | Iterable[str] | None = None,
    ) -> None:
        if callable(first) != (last is None):
            raise MinetError(
                f"SigmaSchedule takes two sigmas or a function, got {first!r:.60} and {last!r}",
                "SigmaSchedule(2.5, 0.5), or SigmaSchedule(lambda epoch: max(2.5 * 0.6**epoch, 0.5))",
            )
        if not callable(first):
            for value in (first, last):
                if value is None or not is_real(value) or value <= 0:
                    raise MinetError(f"a sigma must be a number of pixels above 0, got {value!r}")
        self.first, self.last = first, last
        self.layers = [layers] if isinstance(layers, str) else None if layers is None else list(layers)

    def on_start(self, trainer: Trainer) -> None:
        self._found(trainer)  # an error comes before the first step

    def on_epoch_begin(self, trainer: Trainer) -> None:
        sigma = self.sigma(trainer.epoch, trainer.epochs)
        for layer in self._found(trainer):
            layer.sigma = sigma

    def sigma(self, epoch: int, epochs: int) -> Any:
        """Sigma after so many epochs of a run."""
        if callable(self.first):
            sigma = self.first(epoch)
            if not np.all(np.asarray(sigma) > 0) or not np.isfinite(sigma).all():
                raise MinetError(f"{brief(self.first)} returned {sigma!r:.60} as sigma of epoch {epoch + 1}")
            return sigma
        share = min(1.0, epoch / (epochs - 1)) if epochs > 1 else 0.0
        return float(self.first * (self.last / self.first) ** share)  # type: ignore[operator]

    def _found(self, trainer: Trainer) -> list[GaussianPool]:
        net = trainer.net
        found = [*net.graph.walk()] if self.layers is None else [net[path] for path in self.layers]
        pools = [layer for layer in found if isinstance(layer, GaussianPool) and not layer.tied]
        if self.layers is not None and len(pools) < len(found):
            other = next(layer for layer in found if layer not in pools)
            raise MinetError(f"SigmaSchedule: {other.where} is not a GaussianPool with weights of its own")
        if not pools:
            raise MinetError("SigmaSchedule: the net has no GaussianPool")
        return pools
