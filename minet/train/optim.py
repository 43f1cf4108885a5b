"""The solver, SGD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array
from minet.core.naming import brief, relative
from minet.core.net import Net
from minet.core.settings import is_real, plain
from minet.train.schedules import Schedule, check_number, check_schedule


@dataclass(eq=False)
class SGD:
    """Stochastic gradient descent with momentum, in PyTorch's form.

    ``g' = g + weight_decay*w``, ``v <- momentum*v + g'``, ``w <- w - rate*v``; with `nesterov`
    ``w <- w - rate*(g' + momentum*v)``. The rate is ``lr * schedule(epoch)``, times the parameter's own `lr`;
    a parameter with ``lr=0`` is frozen, one with ``decay=False`` does not decay. v starts at 0.

    Each solver serves one net.

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

    Attributes
    ----------
    epoch : float
        Epochs done, including fractions; the trainer sets it before each step.
    velocity : dict of str to array
        v by parameter path; empty before the first update.

    Raises
    ------
    MinetError
        If a setting is out of range, or if the schedule does not return a valid factor.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: Schedule | None = None
    epoch: float = field(default=0.0, init=False, repr=False)
    velocity: dict[str, Array] = field(default_factory=dict, init=False, repr=False)
    _net: Net | None = field(default=None, init=False, repr=False)
    _step: Any = field(default=None, init=False, repr=False)

    reads_verdict: ClassVar[bool] = True  # on a card, an update of a refused step changes nothing

    def __post_init__(self) -> None:
        check_number(self, "lr", "above 0", is_real(self.lr) and self.lr > 0)
        check_number(self, "momentum", "in [0, 1)", is_real(self.momentum) and 0 <= self.momentum < 1)
        check_number(
            self, "weight_decay", "of at least 0", is_real(self.weight_decay) and self.weight_decay >= 0
        )
        if not isinstance(self.nesterov, bool):
            raise MinetError(f"SGD's nesterov must be True or False, got {self.nesterov!r}")
        if self.nesterov and not self.momentum:
            raise MinetError("SGD's nesterov needs a momentum", "SGD(..., momentum=0.9, nesterov=True)")
        if self.schedule is not None:
            check_schedule(self, "schedule", self.schedule)

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
            raise self._bad_schedule(f"returned {factor!r}")
        return self.lr * plain(factor)

    def _bad_schedule(self, what: str) -> MinetError:
        code = getattr(self.schedule, "__code__", None)
        place = f" ({relative(code.co_filename)}:{code.co_firstlineno})" if code else ""
        return MinetError(
            f"the schedule {brief(self.schedule)}{place} {what} at epoch {self.epoch:g}",
            "a schedule takes the epoch and returns a finite factor of at least 0",
        )

    def update(self, net: Net) -> None:
        """Update all parameters of the net by one step, using its gradients."""
        if self._net is not net:
            self.bind(net)
        self._step(self.rate, self.momentum, self.weight_decay, self.nesterov)

    def __getstate__(self) -> dict[str, Any]:
        """The settings and the velocities: a copy serves the net that it first updates."""
        state, net = dict(vars(self)), self._net
        if net is not None:
            kept = {path: np.array(net.be.get(values)) for path, values in self.velocity.items()}
            state |= {"velocity": kept, "_net": None, "_step": None}
        return state

    def load(self, velocity: Mapping[str, np.ndarray]) -> None:
        """Load copies of velocities that were saved from `velocity`; `bind` checks them against its net."""
        self.velocity = {path: np.array(values) for path, values in velocity.items()}
        self._net = None

    def bind(self, net: Net) -> None:
        """Attach to this net, with the loaded velocities or zeros; the first update does it if needed.

        Raises
        ------
        MinetError
            If it already serves another net, or if loaded velocities do not fit the net's parameters.
        """
        if self._net is not None and self._net is not net:
            raise MinetError("this solver already serves another net", "create one SGD(...) for each net")
        shapes = {slot.path: tuple(slot.value.shape) for slot in net.slots}
        loaded = {path: tuple(values.shape) for path, values in self.velocity.items()} or shapes
        if loaded != shapes:
            path = next(p for p in [*shapes, *loaded] if shapes.get(p) != loaded.get(p))
            raise MinetError(
                f"the velocity of {path} has shape {loaded.get(path, 'none')}, "
                f"the net's parameter {shapes.get(path, 'none')}",
                "load velocities that were saved from the same model",
            )
        memory = net.memory
        flat = net.be.zeros(memory.flat_params.shape)
        bound = {slot.path: slot.place(flat) for slot in net.slots}
        for path, values in self.velocity.items():
            net.be.copy(values, bound[path])
        self.velocity, self._net = bound, net
        buffers = memory.flat_params, memory.flat_grads, flat
        self._step = net.be.solver_step(net.slots, buffers, memory.verdict)
