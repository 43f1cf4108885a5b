"""SGD: stochastic gradient descent with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from minet.core.errors import MinetError
from minet.core.layer import Array
from minet.core.settings import is_real
from minet.train.optim.schedules import Schedule, check_number
from minet.train.optim.solver import FirstOrder


@dataclass(eq=False)
class SGD(FirstOrder):
    """Stochastic gradient descent with momentum, in PyTorch's form.

    ``g' = g + weight_decay*w``, ``v <- momentum*v + g'``, ``w <- w - rate*v``; with `nesterov`
    ``w <- w - rate*(g' + momentum*v)``. The rate is ``lr * schedule(epoch)``, times the parameter's own `lr`;
    a parameter with ``lr=0`` is frozen, one with ``decay=False`` does not decay. v starts at 0.

    Before that, gradients are clipped: with `clip_norm` all are multiplied by ``clip_norm / (norm + 1e-6)``
    if that is below 1, where `norm` is the square root of the sum of all their squares, frozen parameters
    apart; then, with `clip_value`, each element is cut off at ``-clip_value`` and `clip_value`.

    Settings may be changed between steps. Each solver serves one net.

    Parameters
    ----------
    lr : float
        Learning rate, above 0.
    momentum : float
        In [0, 1).
    weight_decay : float
    nesterov : bool
        Needs a momentum.
    schedule : callable, optional
        ``schedule(epoch)`` returns a factor of `lr`; None keeps the rate constant.
    clip_norm, clip_value : float, optional

    Attributes
    ----------
    epoch : float
        Epochs done, including fractions; the trainer sets it before each step.
    velocity : dict of str to array
        v by parameter path; empty before the first update.

    Raises
    ------
    MinetError
        If a setting is out of range, at construction or, if it was changed, at the step; or if the schedule
        does not return a valid factor.

    Notes
    -----
    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
    Clipping: Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013,
    arXiv 1211.5063, in the form of PyTorch's ``clip_grad_norm_``.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: Schedule | None = None
    clip_norm: float | None = None
    clip_value: float | None = None

    stem: ClassVar[str] = "sgd"
    keeps: ClassVar[dict[str, str]] = {"v": "velocity"}

    @property
    def velocity(self) -> dict[str, Array]:
        return self._kept["velocity"]

    def check(self) -> None:
        super().check()
        check_number(self, "momentum", "in [0, 1)", is_real(self.momentum) and 0 <= self.momentum < 1)
        if not isinstance(self.nesterov, bool):
            raise MinetError(f"SGD's nesterov must be True or False, got {self.nesterov!r}")
        if self.nesterov and not self.momentum:
            raise MinetError("SGD's nesterov needs a momentum", "SGD(..., momentum=0.9, nesterov=True)")

    def _take(self, **clipping: Any) -> None:
        own = {"momentum": self.momentum, "decay": self.weight_decay, "nesterov": self.nesterov}
        self._step(lr=self.rate, **own, **clipping)
