"""Schedules of the learning rate: from the epochs done, a fraction too, to a factor of the solver's rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from minet.core.errors import MinetError
from minet.core.settings import is_real, plain

Schedule: TypeAlias = Callable[[float], float]


@dataclass(frozen=True)
class Step:
    """Multiply the rate by each factor from its epoch on; ``Step({20: 0.1, 30: 0.1})`` ends at 1/100."""

    factors: Mapping[float, float]

    def __post_init__(self) -> None:
        items = self.factors.items() if isinstance(self.factors, Mapping) else ()
        good = all(is_real(epoch) and is_real(factor) and min(epoch, factor) >= 0 for epoch, factor in items)
        if not items or not good:
            raise MinetError(
                f"Step takes a dict of epochs to factors, none below 0, got {self.factors!r}",
                "Step({20: 0.1}) divides the rate by ten from epoch 20 on",
            )
        object.__setattr__(self, "factors", {plain(epoch): plain(factor) for epoch, factor in items})

    def __call__(self, epoch: float) -> float:
        return math.prod(factor for start, factor in self.factors.items() if epoch >= start)


@dataclass(frozen=True)
class Exponential:
    """``gamma ** epoch``."""

    gamma: float

    def __post_init__(self) -> None:
        check_number(self, "gamma", "above 0", is_real(self.gamma) and self.gamma > 0)

    def __call__(self, epoch: float) -> float:
        return self.gamma**epoch


@dataclass(frozen=True)
class Polynomial:
    """``end + (1 - end) * (1 - epoch/epochs) ** power``, then `end`; power 1 is a straight line."""

    epochs: float
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        check_number(self, "epochs", "above 0", is_real(self.epochs) and self.epochs > 0)
        check_number(self, "power", "above 0", is_real(self.power) and self.power > 0)
        check_number(self, "end", "of at least 0", is_real(self.end) and self.end >= 0)

    def __call__(self, epoch: float) -> float:
        return self.end + (1 - self.end) * (1 - min(epoch / self.epochs, 1)) ** self.power


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to `end` over `epochs` epochs, then `end`.

    Source: Loshchilov & Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, equation 5, without its restarts.
    """

    epochs: float
    end: float = 0.0

    def __post_init__(self) -> None:
        check_number(self, "epochs", "above 0", is_real(self.epochs) and self.epochs > 0)
        check_number(self, "end", "of at least 0", is_real(self.end) and self.end >= 0)

    def __call__(self, epoch: float) -> float:
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * min(epoch / self.epochs, 1))) / 2


@dataclass(frozen=True)
class WarmUp:
    """A straight line from `start` to 1 over `epochs` epochs, then ``then(epoch)``, or 1 without it.

    `then` receives the epoch counted from the start of the run, not from the end of the warm-up.
    """

    epochs: float
    then: Schedule | None = None
    start: float = 0.0

    def __post_init__(self) -> None:
        check_number(self, "epochs", "above 0", is_real(self.epochs) and self.epochs > 0)
        check_number(self, "start", "of at least 0", is_real(self.start) and self.start >= 0)
        if self.then is not None:
            check_schedule(self, "then", self.then)

    def __call__(self, epoch: float) -> float:
        if epoch < self.epochs:
            return self.start + (1 - self.start) * epoch / self.epochs
        return 1.0 if self.then is None else self.then(epoch)


def check_number(owner: object, name: str, span: str, good: bool) -> None:
    """Refuse a setting of a solver or schedule unless it is good; make it a Python number."""
    if not good:
        raise MinetError(
            f"{type(owner).__name__}'s {name} must be a number {span}, got {getattr(owner, name)!r}"
        )
    object.__setattr__(owner, name, plain(getattr(owner, name)))  # past frozen dataclasses


def check_schedule(owner: object, name: str, value: Any) -> None:
    if not callable(value) or isinstance(value, type):
        raise MinetError(
            f"{type(owner).__name__}'s {name} must be a function of the epoch, got {value!r}",
            f"{name}=Step({{20: 0.1}}), or any function from epoch to factor",
        )
