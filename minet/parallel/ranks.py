"""Ranks: the processes that train together, and what they tell each other besides gradients."""

from __future__ import annotations

import atexit
import contextlib
import json
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from minet.core.errors import MinetError
from minet.parallel.agreement import checksum, disagreement, facts_of
from minet.parallel.level import level
from minet.parallel.options import DEFAULTS
from minet.parallel.threads import own_cores, use_own_cores
from minet.parallel.through_host import own_card, way
from minet.parallel.trace import Trace, write
from minet.parallel.waiting import SilentExit, Waiting, end_job, step_back, tell
from minet.train.micro_batches import micro_batch

T = TypeVar("T")
PATIENCE = float(DEFAULTS["patience"])  # seconds
LEAVING = 20.0  # seconds for which a rank that was interrupted waits for the others


class Ranks:
    """All processes of an MPI job, of which each trains on its share of every batch.

    What they tell each other is JSON and arrays: nothing is unpickled.

    Parameters
    ----------
    world : mpi4py.MPI.Comm
    reduce : {"fast", "ordered"}
        How gradients are summed: as MPI finds it fastest, or by rank, with the same bits in every run. (A
        pause rounds running statistics to their mean: with BatchNorm it must come after the same steps.)
    patience : float
        Seconds for which a rank waits for another one before the job ends.
    sync_batch_norm : bool
        Whether BatchNorm takes its statistics over the whole batch, not over each rank's share.
    micro_batches : int
        In how many parts, one after another, each rank computes its share.
    trace : Path, optional
        Where rank 0 writes what all ranks did in the first steps.

    Attributes
    ----------
    rank, size : int
    here : int
        Which of the ranks on this machine it is.
    beside : int
        How many are on this machine.
    """

    def __init__(
        self,
        world: Any,
        *,
        reduce: str = "fast",
        patience: float = PATIENCE,
        sync_batch_norm: bool = False,
        micro_batches: int = 1,
        trace: Path | None = None,
    ) -> None:
        from mpi4py import MPI

        self.rank, self.size = world.rank, world.size
        # One communicator each for what may happen at the same time.
        self.comm, self.sums, self.between, self.end = (world.Dup() for _ in range(4))
        self.waiting = Waiting(world.Dup(), max(patience, PATIENCE))  # loading and compiling take time
        self._patience = patience
        self.sync_batch_norm, self.trace_file = sync_batch_norm, trace
        self.reduce, self.micro_batches = reduce, micro_batches
        self._agreed: BaseException | None = None
        here = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.here, self.beside = here.rank, here.size
        first = np.array([self.rank])  # of this machine
        here.Bcast(first)
        firsts = self.numbers(first, "the other ranks to start").reshape(-1).tolist()
        self.machines, masks = len(set(firsts)), self.told(own_cores(), "the other ranks to start")
        self._cores = [mask for mask, other in zip(masks, firsts, strict=True) if other == first[0]]
        self.trace = None if trace is None else Trace(self.rank)
        self.notes = list[str]()  # for the user
        self._wished, self._share = False, 0
        self._joined: Any = None  # the trainer that all have found to be of one run
        self._interrupted = self._alone = False  # whether all ranks were; whether this one was, by itself
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        own_card(self.here)
        atexit.register(self._leave)  # before MPI's own end

    # -- what they tell each other --------------------------------------------------------------

    def texts(self, text: str, what: str) -> list[str]:
        """A text of each rank, by rank."""
        data = np.frombuffer(text.encode(), np.uint8)
        sizes = np.empty(self.size, np.int64)
        self.waiting.wait(self.comm.Iallgather(np.array([data.size], np.int64), sizes), what)
        starts = np.cumsum(sizes) - sizes
        every = np.empty(int(sizes.sum()), np.uint8)
        self.waiting.wait(self.comm.Iallgatherv(data, [every, (sizes.tolist(), starts.tolist())]), what)
        return [
            every[start : start + size].tobytes().decode(errors="replace")
            for start, size in zip(starts, sizes, strict=True)
        ]

    def told(self, facts: Any, what: str) -> list[Any]:
        """What JSON can hold, of each rank, by rank."""
        return [json.loads(text) for text in self.texts(json.dumps(facts), what)]

    def numbers(self, values: Any, what: str) -> np.ndarray:
        """float64 numbers of each rank, by rank: ``(size, len(values))``."""
        mine = np.array(values, np.float64)
        every = np.empty((self.size, mine.size))
        self.waiting.wait(self.comm.Iallgather(mine, every), what)
        return every

    def added(self, sums: dict[str, float]) -> dict[str, float]:
        """Sums over all ranks, by name, added by rank."""
        total: dict[str, float] = {}
        mine = {name: float(value) for name, value in sums.items()}  # a loss may return NumPy's
        for found in self.told(mine, "their part of the test"):
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def file(self, path: Path | None) -> Path | None:
        """Rank 0's file, or here a copy of it: the others may be on machines that do not see it."""
        size = np.array([-1 if self.rank or path is None else path.stat().st_size], np.int64)
        self.waiting.wait(self.comm.Ibcast(size), "a checkpoint")
        if size[0] < 0:
            return None
        content = np.empty(size[0], np.uint8)
        if path is not None and not self.rank:
            content[...] = np.fromfile(path, np.uint8)
        self.waiting.wait(self.comm.Ibcast(content), "a checkpoint")
        if not self.rank:
            return path
        self._copy = tempfile.TemporaryDirectory(prefix="minet-")
        copy = Path(self._copy.name) / "weights.safetensors"
        content.tofile(copy)
        return copy

    # -- errors ---------------------------------------------------------------------------------

    def together(self, work: Callable[[], T]) -> T:
        """Do work in each rank; if it fails in one it fails in all, and rank 0 says why."""
        failed: MinetError | None = None
        result: Any = None
        try:
            result = work()
        except MinetError as error:
            failed = error
        except OSError as error:
            where = f"{error.filename!s:.200}: " if error.filename else ""
            failed = MinetError(f"{where}{error.strerror or error}")
        found = self.texts(str(failed) if failed else "", "the other ranks to get ready")
        told = [rank for rank, text in enumerate(found) if text]
        if not told:
            return result
        if failed and self.rank == 0:
            raise self.agreed(failed)
        raise self.agreed(MinetError(f"rank {told[0]}: {found[told[0]]}"))

    def agreed(self, error: BaseException) -> Any:
        """Note an error that all ranks raise; rank 0 reports it."""
        self._agreed = error
        return error

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Within this context, errors of all are reported by rank 0 alone; one of its own ends the job."""
        try:
            with warnings.catch_warnings():
                if self.rank:
                    warnings.simplefilter("ignore")  # rank 0 has them too
                yield
        except SilentExit:
            raise
        except KeyboardInterrupt:
            self._alone = not self._interrupted
            if self.rank:
                raise SilentExit(130) from None
            raise
        except BaseException as error:
            if error is not self._agreed:
                self._end(error)
            if self.rank:
                raise SilentExit(2) from None
            raise
        finally:
            if self._copy is not None:
                self._copy.cleanup()

    def _end(self, error: BaseException) -> None:
        step_back(min(self.rank, 5))  # all may have this error: the first one tells it
        text = str(error) if isinstance(error, MinetError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, (MinetError, OSError, MemoryError)):
            traceback.print_exc()
        tell("error: " + (f"rank {self.rank} of {self.size}: " if self.rank else "") + text)
        end_job(self.comm)

    def _leave(self) -> None:
        """Wait for the others: the launcher ends all when the first one goes with an error."""
        request, end = self.end.Ibarrier(), time.monotonic() + LEAVING
        while self._alone and not request.Test():  # the others may wait for this one elsewhere
            if time.monotonic() > end:
                tell(f"error: rank {self.rank} of {self.size} was interrupted")
                end_job(self.comm, 130)
            time.sleep(0.01)
        self.waiting.wait(request, "the other ranks to end")

    # -- a run ----------------------------------------------------------------------------------

    def share(self, batch: int) -> int:
        """How many images of a batch each rank takes at once."""
        self._share = micro_batch(batch, self.size, self.micro_batches)
        return self._share

    def join(self, trainer: Any) -> None:
        """Raise if a trainer is of another run than rank 0's."""
        facts = facts_of(trainer) | {"options": [self.reduce, self.sync_batch_norm, self.micro_batches]}
        if found := disagreement(self.told(facts, "the other ranks to get ready")):
            raise self.agreed(MinetError(*found))
        net = trainer.net
        own = self.micro_batches * net.batch
        net.clock.part = self.rank * own, self.size * own
        self.notes = [use_own_cores(self._cores), way(net.be, self.reduce == "ordered")]
        self._joined = trainer

    def begin(self, trainer: Any) -> None:
        """Make a trainer's net take its share of each step, before the first one; join first, if need be."""
        from minet.parallel.batch_norm import synchronise
        from minet.parallel.steps import RankSteps

        net = trainer.net
        if getattr(net.steps, "trainer", None) is trainer:
            return  # it fits again
        if self._joined is not trainer:
            self.join(trainer)
        if self.sync_batch_norm:
            self.together(lambda: synchronise(net, self))
        net.steps = RankSteps(net, self, trainer)
        if self.trace is not None:
            self.texts("", "the other ranks to start")
            self.trace.start()
        self.waiting.patience = self._patience

    def opening(self) -> str:
        """A line about the ranks, for the user."""
        where = f" on {self.machines} machines" if self.machines > 1 else ""
        how = {"fast": "", "ordered": ", gradients added by rank"}[self.reduce]
        norm = ", BatchNorm over all of them" if self.sync_batch_norm else ""
        notes = "".join(f"; {note}" for note in self.notes if note)
        parts = f"{self.micro_batches} times " if self.micro_batches > 1 else ""
        return f"{self.size} ranks{where}, {parts}{self._share} images each{how}{norm}{notes}\n"

    def noted(self, wishes: np.ndarray) -> None:
        """Take what any rank wished in the step just taken."""
        self._wished = bool(wishes.any())

    def pausing(self, trainer: Any, last: bool = False) -> bool:
        """Whether any rank wants a pause, as they told each other in the step just taken, or tell now."""
        if last:
            self.noted(self.numbers([trainer.pausing or trainer.interrupted], "the end of an epoch"))
        return self._wished

    def agree(self, trainer: Any) -> bool:
        """Let a wish to stop of any rank be that of all, and running statistics and parameters agree.

        Returns whether any rank is interrupted.
        """
        level(self, trainer.net)
        wishes = self.told([trainer.stopped, trainer.interrupted], "a pause of the run")
        trainer.stopped = next((why for why, _ in wishes if why), "")
        sums = self.told(checksum(trainer.net), "a pause of the run")
        if len(set(sums)) > 1:
            other = next(rank for rank, value in enumerate(sums) if value != sums[0])
            what = f"rank {other}'s parameters differ from rank 0's after {trainer.place}"
            raise self.agreed(MinetError(what, "a callback may have changed them in one rank only"))
        self._interrupted = any(interrupted for _, interrupted in wishes)
        return self._interrupted

    def ended(self, trainer: Any) -> None:
        """The net keeps its steps: the connection is theirs."""

    def finish(self) -> None:
        """Write the trace, if there is one."""
        if self.trace is not None and self.trace_file is not None:
            events = self.told(self.trace.events, "the trace")
            if not self.rank:
                write(self.trace_file, events)
