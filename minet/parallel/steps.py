"""RankSteps: a training step of which each rank takes a share, with one sum of gradients over all.

Each rank's loss is the mean over its own samples, and dy the gradient of that mean. Before bprop dy is
multiplied by the rank's share of what the loss counts (a label that is ignored counts nothing): then the sum
over the ranks is the gradient of the mean over the whole batch, and likewise the loss.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from minet.core.blame import blaming
from minet.core.finite import NotFiniteError
from minet.core.step import Steps
from minet.parallel.buckets import Bucket, Readiness, buckets_of
from minet.parallel.exchange import Exchange
from minet.parallel.through_host import staged


class RankSteps(Steps):
    """The steps of a net whose batch is a share of a larger one.

    A step waits for its loss, which needs all ranks. If the loss or a gradient of any rank is not finite,
    every rank refuses the step.

    Parameters
    ----------
    net : Net
    ranks : Ranks
    trainer : Trainer
        Whose wish to pause the others are told of in each step.
    """

    def __init__(self, net: Any, ranks: Any, trainer: Any) -> None:
        from mpi4py import MPI

        super().__init__(net)
        self.ranks, self.trainer, self.trace = ranks, trainer, ranks.trace
        self.launch = self.compute
        self.buckets = buckets_of(net.slots, net.flat_grads)
        self.readiness = Readiness(net.graph, net.slots, self.buckets)
        on_host = isinstance(net.flat_grads, np.ndarray)
        beside = on_host and MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self.exchange = Exchange(ranks.sums, ranks.waiting, ranks.reduce == "ordered", beside, self.trace)
        self.staged = staged(net.be, self.buckets, ranks.reduce == "ordered")

    @property
    def why(self) -> str:
        return "its gradients are summed over ranks" if self.be.judges else ""

    def compute(self, labels: np.ndarray) -> float | None:
        net, ranks = self.net, self.ranks
        counted = float(net.loss.count(labels, "loss"))
        counts = np.empty(ranks.size)
        request = ranks.between.Iallgather(np.array([counted]), counts)
        net.memory.keep_state()
        with self._traced("fprop"):
            y = net._fprop(self.x, train=True)
        with self._traced("loss"), blaming():
            loss = self.be.started(net.loss, "loss", y, labels, net.dy)
        if getattr(loss, "shape", ()):
            loss = float(np.sum(self.be.get(loss)))
        ranks.waiting.wait(request, f"step {net.clock.now}")
        share = counted / float(counts.sum()) if counts.any() else 1 / ranks.size
        self.be.axpby(share, net.dy, 0.0, net.dy)
        with self._traced("bprop"), self.readiness.watching(self._send, self._ran):
            net._bprop(net.dy)
        self._receive()
        return self._judged(loss, share)

    def _send(self, bucket: Bucket) -> None:
        if not self.staged:
            self.exchange.send(bucket)

    def _ran(self, layer: Any, begin: float) -> None:
        if self.trace is not None:
            self.trace.add(f"bprop {layer.full_path}", begin, time.perf_counter())

    def _receive(self) -> None:
        """Wait until the gradients are the sums over all ranks."""
        for one in self.staged:
            one.leave()
            self.exchange.send(one.bucket)
        self.exchange.finish()
        for one in self.staged:
            one.come_back()

    def _judged(self, loss: float, share: float) -> float:
        """The loss over the whole batch; every rank raises if it or a gradient is not finite."""
        net, ranks = self.net, self.ranks
        part = loss * share
        bad = not (math.isfinite(part) and self.be.sum_is_finite(net.flat_grads))
        begin = time.perf_counter()
        every = np.empty((ranks.size, 3))
        pauses = self.trainer.pausing or self.trainer.interrupted  # by a signal, which comes at any time
        mine = np.array([part, bad, pauses])
        ranks.waiting.wait(ranks.between.Iallgather(mine, every), f"the loss of step {net.clock.now}")
        if self.trace is not None:
            self.trace.add("tell the loss", begin, time.perf_counter())
            self.trace.step_done()
        ranks.noted(every[:, 2])
        total = float(sum(every[:, 0]))
        if every[:, 1].any() or not math.isfinite(total):
            raise self._refused(loss)
        return total

    def _refused(self, loss: float) -> Any:
        """The error that all ranks raise: that of the first rank whose own loss is not finite."""
        ranks = self.ranks
        error = self._error(loss)
        own = "" if math.isfinite(loss) else f"rank {ranks.rank}: {error.message}"
        found = ranks.told([own or error.message, error.hint, bool(own)], "what is not finite")
        message, hint, _ = next((one for one in found if one[2]), found[0])
        return ranks.agreed(NotFiniteError(message, hint))

    @contextlib.contextmanager
    def _traced(self, name: str) -> Iterator[None]:
        """Within this context, what is done appears in the trace."""
        if self.trace is None or self.trace.left <= 0:
            yield
            return
        begin = time.perf_counter()
        yield
        self.trace.add(name, begin, time.perf_counter(), step=self.net.clock.now)
