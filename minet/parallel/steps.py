"""RankSteps: a training step of which each rank takes a share, with one sum of gradients over all.

A rank's share is computed in one part or in several (`minet.train.micro_batches`), and all that is said there
of parts holds for those of all ranks together.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minet.core.finite import NotFiniteError
from minet.parallel.buckets import Bucket, Readiness, buckets_of
from minet.parallel.exchange import Exchange
from minet.parallel.through_host import staged
from minet.train.micro_batches import MicroSteps


class RankSteps(MicroSteps):
    """The steps of a net whose batch is a share of a larger one.

    A step waits for its loss, which needs all ranks. If the loss or a gradient of any rank is not finite,
    every rank refuses the step. Gradients leave during the bprop of a rank's last part. To be added by rank,
    those of each part are kept apart, in host memory.

    Parameters
    ----------
    net : Net
    ranks : Ranks
    trainer : Trainer
        Whose wish to pause the others are told of in each step.
    """

    def __init__(self, net: Any, ranks: Any, trainer: Any) -> None:
        from mpi4py import MPI

        super().__init__(net, ranks.micro_batches)
        self.ranks, self.trainer, self.trace = ranks, trainer, ranks.trace
        self.ordered = ranks.reduce == "ordered"
        self.buckets = buckets_of(net.slots, net.flat_grads)
        self.readiness = Readiness(net.graph, net.slots, self.buckets)
        on_host = isinstance(net.flat_grads, np.ndarray)
        beside = on_host and MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self.exchange = Exchange(ranks.sums, ranks.waiting, self.ordered, beside, self.trace)
        self.kept = list[np.ndarray]()  # the gradients of each part but the last
        if self.ordered and self.count > 1:
            self.total = None
            flat = net.flat_grads
            self.kept = [np.empty(flat.shape, flat.dtype) for _ in range(1, self.count)]
            for bucket in self.buckets:
                bucket.earlier = [bucket.place(one) for one in self.kept]
        self.staged = staged(net.be, self.buckets, self.ordered)

    @property
    def why(self) -> str:
        return "its gradients are summed over ranks" if self.be.judges else ""

    def _shares(self, counted: list[float]) -> Callable[[], Sequence[float]]:
        ranks = self.ranks
        counts = np.empty((ranks.size, self.count))
        request = ranks.between.Iallgather(np.array(counted), counts)

        def shares() -> Sequence[float]:
            ranks.waiting.wait(request, f"step {self.net.clock.now}")
            total = float(sum(counts.flat))
            return [float(one) / total if total else 1 / counts.size for one in counts[ranks.rank]]

        return shares

    def _keep(self, j: int) -> None:
        if self.kept:
            self.kept[j][...] = self.be.get(self.net.flat_grads)
        else:
            super()._keep(j)

    def _sending(self) -> contextlib.AbstractContextManager[Any]:
        return self.readiness.watching(self._send, self._ran)

    def _send(self, bucket: Bucket) -> None:
        if self.staged:
            return
        if self.total is not None:
            self.be.axpby(1.0, bucket.place(self.total), 1.0, bucket.values)
        self.exchange.send(bucket)

    def _ran(self, layer: Any, begin: float) -> None:
        if self.trace is not None:
            self.trace.add(f"bprop {layer.full_path}", begin, time.perf_counter())

    def _receive(self) -> None:
        """Wait until the gradients are the sums over all ranks."""
        if self.staged:
            super()._receive()
        for one in self.staged:
            one.leave()
            self.exchange.send(one.bucket)
        self.exchange.finish()
        for one in self.staged:
            one.come_back()

    def _judged(self, losses: list[float], shares: Sequence[float]) -> float:
        """The loss over the whole batch; every rank raises if it or a gradient is not finite."""
        net, ranks = self.net, self.ranks
        parts = [loss * share for loss, share in zip(losses, shares, strict=True)]
        own = sum(parts)
        bad = not (math.isfinite(own) and self.be.sum_is_finite(net.flat_grads))
        begin = time.perf_counter()
        every = np.empty((ranks.size, 2 + self.count))
        pauses = self.trainer.pausing or self.trainer.interrupted  # by a signal, which comes at any time
        mine = np.array([bad, pauses, *parts])
        ranks.waiting.wait(ranks.between.Iallgather(mine, every), f"the loss of step {net.clock.now}")
        if self.trace is not None:
            self.trace.add("tell the loss", begin, time.perf_counter())
            self.trace.step_done()
        ranks.noted(every[:, 1])
        total = float(sum(every[:, 2:].flat))
        if every[:, 0].any() or not math.isfinite(total):
            raise self._refused(own)
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
