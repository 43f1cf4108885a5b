"""A training step: what it computes, when its loss is known, and what happens if that is not finite."""

from __future__ import annotations

import functools
import math
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from minet.core.blame import blaming
from minet.core.finite import RATE, NotFiniteError, first_not_finite, first_not_finite_bprop
from minet.core.given import not_real
from minet.core.layer import Array
from minet.core.loss.base import number


class Started:
    """A step that was started; on a card it may still be running.

    Attributes
    ----------
    x, labels : array
        Its batch, which must stay as it is until `loss` has been called.
    step : int
        Its number, from 0.
    part : (int, int), optional
        Which part of a batch it was given, as `minet.rng.Clock` says.
    """

    def __init__(self, steps: Steps, x: Array, labels: np.ndarray, found: float | Callable[[], Any]) -> None:
        self.steps, self.x, self.labels, self.step = steps, x, labels, steps.net.clock.now
        self.part = steps.net.clock.part
        self._found: Any = found

    @property
    def running(self) -> bool:
        """Whether the step may not be done: `loss` would wait for it."""
        return self in self.steps.waiting

    def loss(self) -> float:
        """The batch's mean loss from before the update.

        Raises
        ------
        NotFiniteError
            If the loss or a gradient is not finite, in this step or in one that was started before it.
        """
        if self.running:
            self.steps.read_to(self)
        if isinstance(self._found, NotFiniteError):
            raise self._found
        return float(self._found)

    def judged(self) -> bool:
        """Wait for the step; whether its loss and its gradients are finite."""
        self._found, refused = (float(number) for number in self._found())
        return not refused

    def refuse(self, error: NotFiniteError) -> None:
        self._found = error


class Steps:
    """The training steps of a net at one batch size.

    On a backend that judges (`Backend.judges`) a step is started without waiting for the one before it. A
    verdict in the backend's memory keeps the promise that a step whose loss or gradient is not finite changes
    nothing: the update, the statistics and all later steps read it. When the host reads it, a step later, it
    goes back to the refused step, takes it once more, and looks for the layer to blame.

    Attributes
    ----------
    captured : bool
        Whether a step is replayed as a whole, rather than launched kernel by kernel.
    why : str
        If it is not, the reason; empty on backends that replay nothing.
    """

    def __init__(self, net: Any) -> None:
        self._net = weakref.ref(net)  # not the net itself: its memory is freed as soon as it is dropped
        self.be = net.be
        self.x: Array = None
        self.verdict = net.memory.verdict
        self.waiting: deque[Started] = deque()
        work = functools.partial(_compute, self._net)
        self.launch = self.be.repeated(work, [*net.graph.walk(), net.loss], net.clock)

    @property
    def net(self) -> Any:
        return self._net()

    @property
    def captured(self) -> bool:
        return getattr(self.launch, "graph", None) is not None

    @property
    def why(self) -> str:
        return str(getattr(self.launch, "why", ""))

    def start(self, x: Array, labels: np.ndarray, solver: Any) -> Started:
        """Start a step; at most one other is left running."""
        net = self.net
        while len(self.waiting) > 1:
            self.read_to(self.waiting[0])
        if bind := getattr(solver, "bind", None):
            bind(net)  # refuses what it must before anything is computed
        self.take(x)
        with np.errstate(all="ignore"):  # overflows are found below, and reported with their place
            loss = self.launch(labels)
        step = Started(self, x, labels, self.be.later(self.verdict) if loss is None else loss)
        if loss is None:
            self.waiting.append(step)
            if not getattr(solver, "reads_verdict", False):
                self.settle()
        solver.update(net)
        net.clock.step = step.step + 1
        return step

    def check(self, x: Array, labels: np.ndarray) -> None:
        """Refuse what cannot be a step's batch."""
        self.net.loss.check(labels, self.net.output_shape, self.net.batch)
        self.net.check_shape(x)

    def take(self, x: Array) -> None:
        """Let x be the net's input; without a copy where it may stay in place.

        Between fprop and bprop only this step writes, to y and dy.
        """
        net = self.net
        try:
            here = self.be.taken(x, net.memory.x)
        except TypeError as error:
            raise not_real("the net takes x", x) from error
        if self.be.overlap(here, net.y) or self.be.overlap(here, net.dy):
            here = self.be.duplicate(here)
        self.x = net.x = here

    def compute(self, labels: np.ndarray) -> float | None:
        """All of a step but the update; its loss, unless the backend judges it."""
        net = self.net
        net.memory.keep_state()
        y = net._fprop(self.x, train=True)
        with blaming():
            loss = self.be.started(net.loss, "loss", y, labels, net.dy)
        on_host = not (self.be.judges and getattr(loss, "shape", ()))
        if on_host and not math.isfinite(number(net.loss, loss)):
            raise self._error(loss)
        net._bprop(net.dy)
        if not on_host:
            self.be.judge(loss, net.flat_grads, self.verdict)
            net.memory.restore_state(self.verdict)
            return None
        if not self.be.sum_is_finite(net.flat_grads):
            raise self._error(loss, labels)
        return float(loss)

    def _error(self, loss: float, labels: np.ndarray | None = None) -> NotFiniteError:
        """The error of the step just computed, after going back to the statistics from before it.

        Without the labels of what the net holds, it does not look for the layer that a gradient comes from.
        """
        net, where, hint = self.net, "", RATE
        if math.isfinite(loss):
            bad = (f"the gradient of {s.path} is" for s in net.slots if not self.be.sum_is_finite(s.grad))
            what = f"{next(bad, 'the sum of the gradients is')} not finite"
            if labels is not None:
                net.memory.restore_state()
                self.be.started(net.loss, "loss", net._fprop(self.x, train=True), labels, net.dy)
                where, hint = first_not_finite_bprop(self.be, net.graph, self.x, net.dy)
        else:
            what = f"the loss is {loss}"
            first, _ = net.clock.part or (0, net.batch)
            where, hint = first_not_finite(self.be, net.graph, net.slots, self.x, net.y, first)
        net.memory.restore_state()
        return NotFiniteError(f"{what} at step {net.clock.now}" + (f": {where}" if where else ""), hint)

    def settle(self) -> None:
        """Wait for all steps; raise if one was refused."""
        if self.waiting:
            self.read_to(self.waiting[-1])

    def read_to(self, last: Started) -> None:
        """Read the verdicts of the steps up to this one; at a refused one go back to the net before it."""
        while last in self.waiting:
            step = self.waiting[0]
            fine = step.judged()
            self.waiting.popleft()
            if not fine:
                error = self._taken_again(step)
                for later in (step, *self.waiting):
                    later.refuse(error)
                self.waiting.clear()
                raise error

    def _taken_again(self, step: Started) -> NotFiniteError:
        """Compute a refused step once more, to find what is not finite."""
        net, loss = self.net, step._found
        net.clock.step, net.clock.part = step.step, step.part
        self.x = net.x = self.be.taken(step.x, net.memory.x)
        self.be.fill(self.verdict, 0)
        try:
            with np.errstate(all="ignore"):
                self.compute(step.labels)
                return self._error(loss, step.labels)
        finally:
            self.be.fill(self.verdict, 0)


def _compute(net: Any, labels: np.ndarray) -> float | None:
    """`Steps.compute` of the net in a weak reference."""
    result: float | None = net().steps.compute(labels)
    return result
