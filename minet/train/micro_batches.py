"""MicroSteps: a training step that computes its batch in parts, with one sum of their gradients.

Each part's loss is the mean over its own samples, and dy the gradient of that mean. Before bprop dy is
multiplied by the part's share of what the loss counts (a label that is ignored counts nothing): then the sum
over the parts is the gradient of the mean over the whole batch, and likewise the loss. Samples draw what they
would in the whole batch. BatchNorm takes the statistics of each part, and running statistics become the mean
of what each part would have made of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minet.core.blame import blaming
from minet.core.errors import MinetError
from minet.core.layer import Array
from minet.core.settings import is_whole
from minet.core.step import Steps


class MicroSteps(Steps):
    """The steps of a net that is given `count` times its own batch, and computes one part after another.

    A step waits for its loss. Parts are added in their order: the sums have the same bits as those of `count`
    ranks that add by rank.

    Parameters
    ----------
    net : Net
    count : int
    """

    def __init__(self, net: Any, count: int) -> None:
        super().__init__(net)
        self.count, self.launch = count, self.compute
        place: tuple[int, int] = net.clock.part or (0, count * net.batch)
        self.first, self.whole = place
        self.total = self.be.zeros(net.flat_grads.shape) if count > 1 else None
        self.statistics = Statistics(net, count)

    @property
    def why(self) -> str:
        return f"its batch is computed in {self.count} micro-batches" if self.be.judges else ""

    def check(self, x: Array, labels: np.ndarray) -> None:
        net, whole = self.net, self.count * self.net.batch
        net.loss.check(labels, net.output_shape, whole)
        net.check_shape(x, whole)

    def take(self, x: Array) -> None:
        if self.count == 1:
            super().take(x)
        else:
            self.x = x if isinstance(x, np.ndarray) else self.be.get(x)

    def compute(self, labels: np.ndarray) -> float | None:
        net, x, part = self.net, self.x, self.net.clock.part
        given = [self._part(labels, j) for j in range(self.count)]
        shares, losses = self._shares([float(net.loss.count(one, "loss")) for one in given]), list[float]()
        net.memory.keep_state()
        self.statistics.begin()
        try:
            for j, mine in enumerate(given):
                self._take_part(x, j)
                losses.append(self._fprop(mine))
                self.be.axpby(shares()[j], net.dy, 0.0, net.dy)
                last = j == self.count - 1
                with self._traced("bprop"), self._sending() if last else contextlib.nullcontext():
                    net._bprop(net.dy)
                self.statistics.add()
                if not last:
                    self._keep(j)
            self.statistics.end()
            self._receive()
            if bad := [j for j, loss in enumerate(losses) if not math.isfinite(loss)]:
                self._take_part(x, bad[0])  # the one to blame
            return self._judged(losses, shares())
        finally:
            net.clock.part = part

    def _part(self, array: np.ndarray, j: int) -> np.ndarray:
        n = self.net.batch
        return array if self.count == 1 else np.ascontiguousarray(array[..., n * j : n * (j + 1)])

    def _take_part(self, x: Array, j: int) -> None:
        """Let part j be what the net computes next, from the statistics before the step."""
        if self.count > 1:
            net = self.net
            net.clock.part = self.first + net.batch * j, self.whole
            super().take(self._part(x, j))
            net.memory.restore_state()

    def _fprop(self, labels: np.ndarray) -> float:
        """The mean loss of a part; its gradient is in the net's dy."""
        net = self.net
        with self._traced("fprop"):
            y = net._fprop(self.x, train=True)
        with self._traced("loss"), blaming():
            loss = self.be.started(net.loss, "loss", y, labels, net.dy)
        return float(np.sum(self.be.get(loss)) if getattr(loss, "shape", ()) else loss)

    # -- what ranks do otherwise ------------------------------------------------------------------

    def _shares(self, counted: list[float]) -> Callable[[], Sequence[float]]:
        """What returns each part's share of all that the loss counts; it may wait."""
        total = sum(counted)
        shares = [one / total if total else 1 / self.count for one in counted]
        return lambda: shares

    def _keep(self, j: int) -> None:
        """Keep the gradients of part j, as another one follows."""
        self.be.axpby(1.0, self.net.flat_grads, float(j > 0), self.total)

    def _sending(self) -> contextlib.AbstractContextManager[Any]:
        """Around the last bprop."""
        return contextlib.nullcontext()

    def _receive(self) -> None:
        """Let the gradients be the sums over all parts."""
        if self.total is not None:
            self.be.axpby(1.0, self.total, 1.0, self.net.flat_grads)

    def _judged(self, losses: list[float], shares: Sequence[float]) -> float:
        """The loss over the whole batch; raises if it or a gradient is not finite."""
        loss = float(sum(loss * share for loss, share in zip(losses, shares, strict=True)))
        if not math.isfinite(loss) or not self.be.sum_is_finite(self.net.flat_grads):
            raise self._error(loss)
        return loss

    def _traced(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """Around what a trace calls by that name."""
        return contextlib.nullcontext()


class Statistics:
    """The running statistics of a net, each of whose parts starts from those before the step."""

    def __init__(self, net: Any, count: int) -> None:
        self.be, self.count = net.be, count
        found = [a for a in net.persistent.values() if np.dtype(a.dtype).kind == "f"] if count > 1 else []
        own = [a for a in found if a.dtype == net.be.dtype]
        self.arrays = [(a, net.be.duplicate(a), net.be.duplicate(a)) for a in own]  # value, before, change
        self.others = [
            [a, 0.0, 0.0] for a in found if a.dtype != net.be.dtype
        ]  # added in float64, on the host

    def begin(self) -> None:
        for value, before, change in self.arrays:
            self.be.copy(value, before)
            self.be.fill(change, 0.0)
        for other in self.others:
            other[1:] = self._wide(other[0]), 0.0

    def add(self) -> None:
        """Note the change by a part; where nothing changes it is exactly 0."""
        for value, before, change in self.arrays:
            self.be.axpby(1 / self.count, value, 1.0, change)
            self.be.axpby(-1 / self.count, before, 1.0, change)
        for other in self.others:
            other[2] += (self._wide(other[0]) - other[1]) / self.count

    def end(self) -> None:
        """Apply the mean change."""
        for value, before, change in self.arrays:
            self.be.copy(before, value)
            self.be.axpby(1.0, change, 1.0, value)
        for value, before, change in self.others:
            self.be.copy(np.asarray(before + change, value.dtype), value)

    def _wide(self, value: Array) -> np.ndarray:
        return np.array(self.be.get(value), np.float64)


def checked_count(count: Any) -> int:
    """A number of micro-batches as an int; raises MinetError unless it is a whole number of at least 1."""
    if not is_whole(count) or count < 1:
        raise MinetError(f"micro-batches must be a whole number of at least 1, got {count!r}")
    return int(count)


def micro_batch(batch: int, processes: int, count: int) -> int:
    """How many images each of `count` parts of a process has.

    Raises
    ------
    MinetError
        If they are not equal.
    """
    parts = processes * checked_count(count)
    each, rest = divmod(batch, parts)
    if not rest:
        return each
    near = sorted({max(1, each) * parts, (each + 1) * parts})
    of = [f"{processes} ranks"] * (processes > 1) + [f"{count} micro-batches"] * (count > 1)
    raise MinetError(
        f"a batch of {batch} images cannot be shared equally by {' of '.join(of)}",
        f"--batch {' or '.join(map(str, near))}",
    )
