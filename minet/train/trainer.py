"""Trainer: epochs of training steps, a test after each, and callbacks that watch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.files import FileError
from minet.core.finite import NotFiniteError
from minet.core.net import Net
from minet.core.step import Started
from minet.data.dataset import Dataset
from minet.train import checkpoint
from minet.train.alone import Alone
from minet.train.callback import Callback, Result, call_on_epoch, check_callbacks, claim, named, states
from minet.train.checks import check_given
from minet.train.evaluation import check_data, evaluate
from minet.train.fingerprint import fingerprint
from minet.train.interrupts import finishing_steps
from minet.train.optim.solver import Solver
from minet.train.pixels import Pixels
from minet.train.records import RECORDED, Within, place

__all__ = ["Callback", "Result", "Trainer", "check_data", "evaluate"]


class Trainer:
    """Train a net on one data set and, if there is another, test it on that after each epoch.

    The order of the images depends on (net.seed, epoch), and what layers draw on (net.seed, step). With the
    same parameters, solver's and callbacks' state, and place in the data, a resumed run is bit for bit like
    an uninterrupted one: `save` writes all of that, `resume` reads it.

    Parameters
    ----------
    net : Net
        Must have a loss.
    solver : Solver
        Such as SGD or Adam.
    train : Dataset
    test : Dataset, optional
    epochs : int
    callbacks : iterable of Callback
    folder : str or Path, optional
        Where callbacks write if they are not told another place.
    ranks : Alone or minet.parallel.ranks.Ranks, optional
        The processes that share each batch, and their micro-batches; the net's batch is one of those.

    Attributes
    ----------
    epoch : int
        Epochs done.
    within : Within
        Steps done of the epoch under way.
    history : list of dict
        As in `Result`.
    untested : dict, optional
        The record of an epoch whose test is still to be done, in a run that was stopped then.
    facts : dict
        What checkpoints say of the run besides, such as its model's name, as JSON can hold it.
    rate : float
        The learning rate of the step that `on_batch` is called for.

    Raises
    ------
    MinetError
        If data, net and batch size do not fit together.
    """

    def __init__(
        self,
        net: Net,
        solver: Solver,
        train: Dataset,
        test: Dataset | None = None,
        epochs: int = 1,
        callbacks: Iterable[Callback] = (),
        folder: str | Path | None = None,
        ranks: Any = None,
    ) -> None:
        from minet.data.batches import Batches  # here, as it imports Numba: `import minet` stays fast

        check_given(net, solver, train, test, epochs, ranks)
        self.net, self.solver, self.test, self.epochs = net, solver, test, epochs
        self.ranks = ranks = ranks or Alone()
        share, own = (ranks.rank, ranks.size), ranks.micro_batches * net.batch
        self.batches = Batches(train, own, seed=net.seed, dtype=net.be.dtype, share=share)
        self.callbacks = check_callbacks(callbacks)
        self.folder, self.facts = None if folder is None else Path(folder), dict[str, Any]()
        self.epoch, self.within, self.rate = 0, Within(), 0.0
        self.history: list[dict[str, Any]] = []
        self.untested: dict[str, Any] | None = None
        self._run, self._content = object(), list[str]()  # what callbacks know it by; checksums of the data
        self.stopped, self.pausing, self.interrupted, self.stepping = "", False, False, False

    @property
    def place(self) -> str:
        """Where the run is, in words: ``epoch 2``, or ``17 of 45 batches of epoch 3``."""
        return place(self.epoch, self.within.batches, len(self.batches))

    @property
    def steps(self) -> int:
        """Steps done by the run."""
        return self.epoch * len(self.batches) + self.within.batches

    @property
    def sets(self) -> list[Dataset]:
        """The data sets: for training, and for the test if there is one."""
        return [self.batches.dataset] + ([self.test] if self.test else [])

    # -- what callbacks may ask for -------------------------------------------------------------

    def pause(self) -> None:
        """Have `Callback.on_pause` called as soon as no step is running."""
        self.pausing = True

    def stop(self, why: str) -> None:
        """End the run after the step or the epoch under way, as if it were complete; `Result` says why."""
        self.stopped, self.pausing = str(why or "a callback has stopped it"), True

    def interrupt(self) -> None:
        """End the run by KeyboardInterrupt, after the step under way and a pause."""
        self.interrupted = self.pausing = True

    def save(self, file: str | Path, **facts: Any) -> None:
        """Write a checkpoint from which `resume` goes on; between two steps, as in `on_pause` or `on_epoch`.

        It does not hold `history`. The facts are saved besides those of the trainer, as JSON can hold them.
        """
        known = {"epoch": self.epoch, "batch": self.batches.whole, "data": [one.name for one in self.sets]}
        known |= {"images": [len(one) for one in self.sets], "content": self.content()}
        known |= Pixels.of(self.batches.dataset).facts
        if self.within.batches:
            known["within"] = asdict(self.within)
        if self.untested:
            known["untested"] = self.untested
        if self.ranks.micro_batches > 1:
            known["micro_batches"] = self.ranks.micro_batches
        if kept := states(self.callbacks):
            known["callbacks"] = kept
        checkpoint.save(file, self.net, self.solver, **{**known, **self.facts, **facts})

    def content(self) -> list[str]:
        """Checksums of the data sets."""
        self._content = self._content or [fingerprint(one) for one in self.sets]
        return self._content

    def resume(self, file: str | Path, strict: bool = True) -> dict[str, Any]:
        """Go to where a run was when `save` wrote this file, and return the file's facts.

        The net and the solver must be made like those of the run, and the same callbacks be there. Without
        `strict`, callbacks of other kinds begin anew, and so does an epoch of another batch size,
        or of fewer batches than were done.
        """
        facts = checkpoint.load(file, self.net, self.solver)
        self.epoch, kept = facts.get("epoch", 0), dict(facts.get("callbacks", {}))
        self.history, self.untested = [], None  # those of another run, if there are any
        if untested := facts.get("untested"):
            self.untested = {name: untested[name] for name in RECORDED}
        try:
            self.within = Within.of(facts["within"]) if "within" in facts else Within()
        except ValueError:
            found = f"{file}: its place in the epoch is {facts['within']!r:.80}"
            raise FileError(found, "minet never writes this") from None
        whole = self.batches.whole
        if self.within.batches > len(self.batches) or facts.get("batch", whole) != whole:
            if strict and self.within.batches:
                there = f"{self.within.batches} batches of {facts.get('batch')} images into an epoch"
                here = f"{len(self.batches)} of {whole}"
                raise MinetError(f"{file}: is {there}; this trainer's epochs have {here}")
            self.within = Within()
        for name, callback in named(self.callbacks):
            if name in kept:
                callback.load_state(kept.pop(name))
                claim([callback], self._run, resumed=True)
        if kept and strict and not self.ranks.rank:
            raise MinetError(
                f"{file}: is of a run with {', '.join(kept)}, which this trainer does not have",
                "Trainer(..., callbacks=[...]) as in that run",
            )
        return facts

    # -- the loop -------------------------------------------------------------------------------

    def fit(self) -> Result:
        """Train until `epochs` epochs are done, or a callback ends the run, or Ctrl-C, between two steps."""
        begin, self.stopped, self.pausing, self.interrupted = time.perf_counter(), "", False, False
        claim(self.callbacks, self._run)
        self.ranks.begin(self)
        try:
            self._call("on_start")
            with finishing_steps(self), contextlib.suppress(_Stopped):
                while not self.stopped and (self.untested or self.epoch < self.epochs):
                    self._epoch()
            self.stepping = False
            result = Result(self.history, time.perf_counter() - begin, self.stopped)
            self._call("on_end", result)
        except BaseException as error:
            self.stepping = False
            self._call("on_error", error)
            raise
        finally:
            self.ranks.ended(self)
        return result

    def _epoch(self) -> None:
        self.stepping = True
        self.untested = self.untested or self._train_epoch()
        self.stepping = False  # a test ends at once if the user says so, as it can be done again
        self._obey()
        record = self._tested(self.untested)
        self.stepping = True
        self.untested = None
        self.history.append(record)
        call_on_epoch(self.callbacks, self, record)
        self._obey()

    def _train_epoch(self) -> dict[str, Any]:
        here = self.within
        if not here.batches:
            self._call("on_epoch_begin")
        begin = time.perf_counter() - here.seconds
        for loss in self._steps():
            here.batches += 1
            here.losses += loss
            here.seconds = time.perf_counter() - begin
            self._call("on_batch", loss)
        seconds = time.perf_counter() - begin
        self.epoch += 1
        self.within = Within()
        return {
            "epoch": self.epoch,
            "step": self.net.clock.now,
            "loss": here.losses / len(self.batches),
            "rate": self.solver.rate,
            "seconds": seconds,
            "images_per_second": len(self.batches) * self.batches.whole / seconds,
        }

    def _steps(self) -> Iterator[float]:
        """Take the epoch's other steps and yield their losses; on a GPU each when the next is on its way."""
        running: Started | None = None
        rate, start, waits = 0.0, self.within.batches, any(one.reads_net for one in self.callbacks)
        self.solver.epoch = self.epoch + max(0, start - 1) / len(self.batches)  # if no step is left to take
        for i, (x, labels) in enumerate(self.batches.epoch(self.epoch, start), start):
            self.solver.epoch = self.epoch + i / len(self.batches)
            before, self.rate, rate = running, rate, self.solver.rate
            running = self.net.start_step(x, labels, self.solver)
            if before is not None:
                yield before.loss()
            if waits or self.pausing or not running.running:
                self.rate = rate
                yield running.loss()
                running = None
                if self.ranks.pausing(self):
                    self._pause()
        if running is not None:
            self.rate = rate
            yield running.loss()
        if self.ranks.pausing(self, last=True):
            self._pause()

    def _pause(self) -> None:
        self.ranks.agree(self)
        self.pausing = False
        self._call("on_pause")
        self._obey()
        if self.stopped:
            raise _Stopped

    def _obey(self) -> None:
        if self.ranks.agree(self):
            raise KeyboardInterrupt

    def _tested(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record with the test loss and the metrics, if there is a test set."""
        if self.test is None:
            return record
        loss, metrics = evaluate(self.net, self.test, self.ranks)
        if not math.isfinite(loss):
            raise NotFiniteError(
                f"the test loss is {loss} after epoch {self.epoch}", "lower the learning rate"
            )
        place = list(record).index("loss") + 1  # beside it in the log and on the screen
        numbers = list(record.items())
        return dict([*numbers[:place], ("test_loss", loss), *metrics.items(), *numbers[place:]])

    def _call(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *args)


class _Stopped(Exception):
    """A callback has ended the run within an epoch."""
