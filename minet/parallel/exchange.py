"""Exchange: sums of buckets over all ranks, made beside bprop by a thread of its own.

The thread makes messages advance: most MPI libraries do nothing between two calls. It looks at a request,
sleeps for a moment and looks again, rather than spin, as a rank may have a single core.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import numpy as np

from minet.parallel.buckets import Bucket
from minet.parallel.trace import COMPUTE, EXCHANGE, Trace
from minet.parallel.waiting import BESIDE, SOON, Waiting


class Exchange:
    """Sums buckets in place, one after another, in the order in which they are sent.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        For this alone.
    waiting : Waiting
    ordered : bool
        Add in the order of the ranks, so that every run has the same bits; else as MPI finds it fastest.
    beside : bool
        Whether a thread does it; MPI must allow that. Otherwise `finish` does.
    trace : Trace, optional
    """

    def __init__(
        self, comm: Any, waiting: Waiting, ordered: bool, beside: bool, trace: Trace | None = None
    ) -> None:
        self.comm, self.waiting, self.ordered, self.trace = comm, waiting, ordered, trace
        self._sent: queue.SimpleQueue[Bucket] = queue.SimpleQueue()
        self._summed = threading.Semaphore(0)
        self.beside, self._left = beside, 0
        self._error: BaseException | None = None
        self._parts: dict[int, np.ndarray] = {}
        if beside:
            threading.Thread(target=self._run, name="minet-ranks", daemon=True).start()

    def send(self, bucket: Bucket) -> None:
        """Begin with a bucket; its values belong to the exchange until `finish`."""
        self._left += 1
        self._sent.put(bucket)

    def finish(self) -> None:
        """Wait until all buckets that were sent hold the sums."""
        begin = time.perf_counter()
        while self._left:
            if self.beside:
                self._summed.acquire()
            else:
                self._sum(self._sent.get())
            self._left -= 1
            if self._error is not None:
                raise self._error
        if self.trace is not None:
            self.trace.add("wait for gradients", begin, time.perf_counter(), COMPUTE)

    def _run(self) -> None:
        while True:
            bucket = self._sent.get()
            try:
                self._sum(bucket)
            except BaseException as error:  # raised again in `finish`
                self._error = error
            finally:
                self._summed.release()

    def _sum(self, bucket: Bucket) -> None:
        begin = time.perf_counter()
        what = f"the gradients of {bucket.name}"
        if self.ordered:
            self._sum_in_order(bucket, what)
        else:
            from mpi4py import MPI

            if isinstance(bucket.values, np.ndarray):
                self._wait(self.comm.Iallreduce(MPI.IN_PLACE, bucket.values), what)
            else:  # on a card, which Open MPI's Iallreduce cannot read (open-mpi/ompi issue 9845)
                self._wait(self.comm.Ibarrier(), what)  # a rank that hangs is found here
                self.comm.Allreduce(MPI.IN_PLACE, bucket.values)
        if self.trace is not None:
            facts = {"bytes": bucket.values.nbytes, "parameters": bucket.paths}
            self.trace.add(bucket.name, begin, time.perf_counter(), EXCHANGE, **facts)

    def _wait(self, request: Any, what: str) -> None:
        self.waiting.wait(request, what, BESIDE if self.beside else SOON)

    def _sum_in_order(self, bucket: Bucket, what: str) -> None:
        """Each rank gets a piece of all parts, adds them in their order, and gives the sums to all."""
        from mpi4py import MPI

        comm, P, rank, values = self.comm, self.comm.size, self.comm.rank, bucket.values
        ends = [values.size * (i + 1) // P for i in range(P)]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        starts, mine = [0, *ends[:-1]], counts[rank]
        parts = [*bucket.earlier, values]
        pieces = self._room(len(parts) * P * mine, values.dtype).reshape(len(parts), P, mine)
        theirs = [mine] * P, [i * mine for i in range(P)]
        for own, piece in zip(parts, pieces, strict=True):
            self._wait(comm.Ialltoallv([own, (counts, starts)], [piece, theirs]), what)
        total = pieces[0, 0]
        for i in range(1, P * len(parts)):  # all parts of rank 0, then those of rank 1, and so on
            from_rank, part = divmod(i, len(parts))
            total += pieces[part, from_rank]
        values[starts[rank] : ends[rank]] = total
        self._wait(comm.Iallgatherv(MPI.IN_PLACE, [values, (counts, starts)]), what)

    def _room(self, size: int, dtype: np.dtype) -> np.ndarray:
        """Memory that is kept for the next step."""
        if size not in self._parts:
            self._parts[size] = np.empty(size, dtype)
        return self._parts[size]
