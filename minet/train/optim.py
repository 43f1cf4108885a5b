"""The solver, SGD, and schedules of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array
from minet.core.naming import brief, relative
from minet.core.net import Net
from minet.core.settings import is_real

Schedule: TypeAlias = Callable[[float], float]  # from epochs done, a fraction too, to a factor of the rate


@dataclass(eq=False)
class SGD:
    """Stochastic gradient descent with momentum, in PyTorch's form.

    ``g' = g + weight_decay*w``, ``v <- momentum*v + g'``, ``w <- w - rate*v``; with `nesterov`
    ``w <- w - rate*(g' + momentum*v)``. The rate is ``lr * schedule(epoch)``, times the parameter's own `lr`;
    a parameter with ``lr=0`` is frozen, one with ``decay=False`` does not decay. v starts at 0.

    A solver serves one net.

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
        ``schedule(epoch)`` gives a factor of `lr`; None keeps the rate constant.

    Attributes
    ----------
    epoch : float
        Epochs done, with their fraction; the trainer sets it before each step.
    velocity : dict of str to array
        v by the path of its parameter; empty before the first update.

    Raises
    ------
    MinetError
        If a setting is out of its range, or if the schedule gives something that is no rate.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: Schedule | None = None
    epoch: float = field(default=0.0, init=False, repr=False)
    velocity: dict[str, Array] = field(default_factory=dict, init=False, repr=False)
    _net: Net | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self, "lr", "above 0", is_real(self.lr) and self.lr > 0)
        _check(self, "momentum", "in [0, 1)", is_real(self.momentum) and 0 <= self.momentum < 1)
        _check(self, "weight_decay", "of at least 0", is_real(self.weight_decay) and self.weight_decay >= 0)
        if not isinstance(self.nesterov, bool):
            raise MinetError(f"SGD's nesterov must be True or False, got {self.nesterov!r}")
        if self.nesterov and not self.momentum:
            raise MinetError("SGD's nesterov needs a momentum", "SGD(..., momentum=0.9, nesterov=True)")
        if self.schedule is not None:
            _check_schedule(self, "schedule", self.schedule)

    @property
    def rate(self) -> float:
        """The learning rate at this epoch."""
        if self.schedule is None:
            return self.lr
        try:
            factor: Any = self.schedule(self.epoch)
        except Exception as error:
            raise self._bad_schedule(f"fails: {type(error).__name__}: {error}") from error
        if not is_real(factor) or factor < 0:
            raise self._bad_schedule(f"gave {factor!r}")
        return self.lr * factor

    def _bad_schedule(self, what: str) -> MinetError:
        code = getattr(self.schedule, "__code__", None)
        place = f" ({relative(code.co_filename)}:{code.co_firstlineno})" if code else ""
        return MinetError(
            f"the schedule {brief(self.schedule)}{place} {what} at epoch {self.epoch:g}",
            "a schedule takes the epoch and gives a finite factor of at least 0",
        )

    def update(self, net: Net) -> None:
        """One step on all parameters of the net, from its gradients."""
        if self._net is not net:
            self.bind(net)
        rate = self.rate
        for slot in net.slots:
            if slot.param.lr == 0:
                continue
            net.be.sgd_step(
                slot.value,
                slot.grad,
                self.velocity[slot.path],
                lr=rate * slot.param.lr,
                momentum=self.momentum,
                decay=self.weight_decay if slot.param.decay else 0.0,
                nesterov=self.nesterov,
                bounds=slot.param.bounds,
            )

    def load(self, velocity: Mapping[str, np.ndarray]) -> None:
        """Take up velocities that were saved from `velocity`: copies, which `bind` checks against its net."""
        self.velocity = {path: np.array(values) for path, values in velocity.items()}
        self._net = None

    def bind(self, net: Net) -> None:
        """Serve this net, with the velocities loaded or with zeros; the first update does it.

        Raises
        ------
        MinetError
            If it serves another net already, or if loaded velocities do not fit the net's parameters.
        """
        if self._net is not None and self._net is not net:
            raise MinetError("this solver serves another net already", "make one SGD(...) for each net")
        shapes = {slot.path: tuple(slot.value.shape) for slot in net.slots}
        loaded = {path: tuple(values.shape) for path, values in self.velocity.items()} or shapes
        if loaded != shapes:
            path = next(p for p in [*shapes, *loaded] if shapes.get(p) != loaded.get(p))
            raise MinetError(
                f"the velocity of {path} has shape {loaded.get(path, 'none')}, "
                f"the net's parameter {shapes.get(path, 'none')}",
                "load velocities that were saved from the same model",
            )
        bound = {path: net.be.zeros(shape) for path, shape in shapes.items()}
        for path, values in self.velocity.items():
            net.be.copy(values, bound[path])
        self.velocity, self._net = bound, net


@dataclass(frozen=True)
class Step:
    """The rate times each factor from its epoch on: ``Step({20: 0.1, 30: 0.1})`` ends at a hundredth."""

    factors: Mapping[float, float]

    def __post_init__(self) -> None:
        items = self.factors.items() if isinstance(self.factors, Mapping) else ()
        good = all(is_real(epoch) and is_real(factor) and min(epoch, factor) >= 0 for epoch, factor in items)
        if not items or not good:
            raise MinetError(
                f"Step takes a dict of epochs to factors, none below 0, got {self.factors!r}",
                "Step({20: 0.1}) divides the rate by ten from epoch 20 on",
            )

    def __call__(self, epoch: float) -> float:
        return math.prod(factor for start, factor in self.factors.items() if epoch >= start)


@dataclass(frozen=True)
class Exponential:
    """``gamma ** epoch``."""

    gamma: float

    def __post_init__(self) -> None:
        _check(self, "gamma", "above 0", is_real(self.gamma) and self.gamma > 0)

    def __call__(self, epoch: float) -> float:
        return self.gamma**epoch


@dataclass(frozen=True)
class Polynomial:
    """``end + (1 - end) * (1 - epoch/epochs) ** power``, then `end`; power 1 is a straight line."""

    epochs: float
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        _check(self, "epochs", "above 0", is_real(self.epochs) and self.epochs > 0)
        _check(self, "power", "above 0", is_real(self.power) and self.power > 0)
        _check(self, "end", "of at least 0", is_real(self.end) and self.end >= 0)

    def __call__(self, epoch: float) -> float:
        return self.end + (1 - self.end) * (1 - min(epoch / self.epochs, 1)) ** self.power


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to `end` over so many epochs, then `end`.

    Source: Loshchilov & Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, equation 5, without its restarts.
    """

    epochs: float
    end: float = 0.0

    def __post_init__(self) -> None:
        _check(self, "epochs", "above 0", is_real(self.epochs) and self.epochs > 0)
        _check(self, "end", "of at least 0", is_real(self.end) and self.end >= 0)

    def __call__(self, epoch: float) -> float:
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * min(epoch / self.epochs, 1))) / 2


@dataclass(frozen=True)
class WarmUp:
    """A straight line from `start` to 1 over so many epochs, then ``then(epoch)``, or 1 without it.

    `then` is given the epoch counted from the start of the run, not from the end of the warm-up.
    """

    epochs: float
    then: Schedule | None = None
    start: float = 0.0

    def __post_init__(self) -> None:
        _check(self, "epochs", "above 0", is_real(self.epochs) and self.epochs > 0)
        _check(self, "start", "of at least 0", is_real(self.start) and self.start >= 0)
        if self.then is not None:
            _check_schedule(self, "then", self.then)

    def __call__(self, epoch: float) -> float:
        if epoch < self.epochs:
            return self.start + (1 - self.start) * epoch / self.epochs
        return 1.0 if self.then is None else self.then(epoch)


def _check(owner: object, name: str, span: str, good: bool) -> None:
    if not good:
        raise MinetError(
            f"{type(owner).__name__}'s {name} must be a number {span}, got {getattr(owner, name)!r}"
        )


def _check_schedule(owner: object, name: str, value: Any) -> None:
    if not callable(value) or isinstance(value, type):
        raise MinetError(
            f"{type(owner).__name__}'s {name} must be a function of the epoch, got {value!r}",
            f"{name}=Step({{20: 0.1}}), or any function from epoch to factor",
        )
