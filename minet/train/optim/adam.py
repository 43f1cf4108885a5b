"""Adam and AdamW: steps in the size of the rate, whatever the size of the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array
from minet.core.net import Net
from minet.core.settings import is_real, plain
from minet.train.optim.schedules import Schedule, check_number
from minet.train.optim.solver import FirstOrder


@dataclass(eq=False)
class Adam(FirstOrder):
    """Adam, in PyTorch's form.

    ``g' = g + weight_decay*w``, ``m <- b1*m + (1-b1)*g'``, ``v <- b2*v + (1-b2)*g'^2`` and, in update t from
    1, ``w <- w - rate * m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps)``. The rate is ``lr * schedule(epoch)``, times
    the parameter's own `lr`; a parameter with ``lr=0`` is frozen, one with ``decay=False`` does not decay. m
    and v start at 0. A step that is refused, as its loss is not finite, does not count in t.

    `clip_norm` and `clip_value` clip the gradients before that, as `SGD` says. Settings may be changed
    between steps. Each solver serves one net.

    Parameters
    ----------
    lr : float
        Learning rate, above 0.
    betas : (float, float)
        b1 and b2, each in [0, 1).
    eps : float
        Above 0.
    weight_decay : float
    schedule : callable, optional
        ``schedule(epoch)`` returns a factor of `lr`; None keeps the rate constant.
    clip_norm, clip_value : float, optional

    Attributes
    ----------
    epoch : float
        Epochs done, including fractions; the trainer sets it before each step.
    moment1, moment2 : dict of str to array
        m and v by parameter path; empty before the first update.
    updates : int
        t, the updates done; to read it waits for a GPU.

    Raises
    ------
    MinetError
        If a setting is out of range, at construction or, if it was changed, at the step; or if the schedule
        does not return a valid factor.

    Notes
    -----
    Source: Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv 1412.6980,
    algorithm 1.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule | None = None
    clip_norm: float | None = None
    clip_value: float | None = None

    stem: ClassVar[str] = "adam"
    keeps: ClassVar[dict[str, str]] = {"m": "moment1", "v": "moment2"}
    decoupled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._updates: Array = np.zeros(2, np.int64)  # a step reads one and writes the other, in turns
        self._turn = 0

    @property
    def moment1(self) -> dict[str, Array]:
        return self._kept["moment1"]

    @property
    def moment2(self) -> dict[str, Array]:
        return self._kept["moment2"]

    @property
    def updates(self) -> int:
        both = self._updates if self._net is None else self._net.be.get(self._updates)
        return int(both[self._turn])

    def check(self) -> None:
        super().check()
        betas = self.betas if isinstance(self.betas, (tuple, list)) else ()
        if len(betas) != 2 or not all(is_real(beta) and 0 <= beta < 1 for beta in betas):
            name = type(self).__name__
            raise MinetError(
                f"{name}'s betas must be two numbers in [0, 1), got {self.betas!r}",
                f"{name}(betas=(0.9, 0.999))",
            )
        self.betas = (plain(betas[0]), plain(betas[1]))
        check_number(self, "eps", "above 0", is_real(self.eps) and self.eps > 0)

    def _fixed(self, be: Any) -> dict[str, Array]:
        self._updates, self._turn = be.array(np.full(2, self.updates), "int64"), 0
        return {"updates": self._updates}

    def _take(self, **clipping: Any) -> None:
        own = {"beta1": self.betas[0], "beta2": self.betas[1], "eps": self.eps, "decay": self.weight_decay}
        self._step(turn=self._turn, lr=self.rate, decoupled=self.decoupled, **own, **clipping)
        self._turn = 1 - self._turn

    def state(self, net: Net) -> dict[str, Array]:
        """m and v for each parameter of the net, such as ``moment1:2/conv.w``, and ``updates:``."""
        arrays = super().state(net)
        return arrays | {"updates:": self._updates[self._turn : self._turn + 1]}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_updates": np.full(2, self.updates), "_turn": 0}


@dataclass(eq=False)
class AdamW(Adam):
    """Adam with decoupled weight decay, in PyTorch's form.

    As `Adam` with ``g' = g``, but first ``w <- w - rate*weight_decay*w``: the decay neither enters the
    moments nor is divided by them.

    Parameters
    ----------
    lr, betas, eps, schedule, clip_norm, clip_value
        As in `Adam`.
    weight_decay : float

    Notes
    -----
    Source: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv 1711.05101.
    """

    weight_decay: float = 1e-2

    decoupled: ClassVar[bool] = True
