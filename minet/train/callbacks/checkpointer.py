"""Checkpointer: what a run needs to go on after it was stopped or killed."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.files import FileError
from minet.core.finite import NotFiniteError
from minet.core.settings import is_whole
from minet.train import older
from minet.train.callback import Callback
from minet.train.every import Every
from minet.train.optim.solver import state_of
from minet.train.run_files import WEIGHTS
from minet.train.trainer import Trainer


class Checkpointer(Callback):
    """Save a checkpoint after each epoch and, if told so, within epochs.

    Each replaces the one before, whole or not at all. It holds the state of the callbacks, so it comes after
    those that have some.

    If the user stops the run while an epoch is tested, that epoch is saved too: only its test is left to do.
    If a checkpoint within an epoch cannot be written, as on a full disk, the run goes on with a warning; one
    of an epoch ends the run. The one before it stays as it was.

    Parameters
    ----------
    folder : str or Path
        Where ``weights.safetensors`` is written.
    every : str, int or None
        Within epochs: a time, such as ``"60s"``, or a number of steps; None or 0 for never.
    keep : int
        How many checkpoints are kept. Those before the newest lie in the folder ``checkpoints``.
    clock : callable
        Returns seconds.
    **facts
        More facts to save, such as the model's name and settings.

    Attributes
    ----------
    saved : int
        The epochs done in the checkpoint on disk; 0 without one.
    place : str
        The place in the run of the checkpoint on disk, in words; empty without one.
    """

    saves_states = True

    def __init__(
        self,
        folder: str | Path,
        every: str | int | None = None,
        keep: int = 1,
        clock: Callable[[], float] = time.monotonic,
        **facts: Any,
    ) -> None:
        if not is_whole(keep) or keep < 1:
            raise MinetError(f"keep must be a whole number of at least 1, got {keep!r}")
        self.every, self.keep = Every(every, clock), keep
        self.folder, self.facts, self.saved = Path(folder), facts, 0
        self.place, self._step = "", 0

    def on_start(self, trainer: Trainer) -> None:
        state_of(trainer.solver, trainer.net)  # refuses, before an epoch is lost, what could not be resumed
        self.saved = trainer.epoch
        if trainer.epoch or trainer.within.batches:
            self.place, self._step = trainer.place, trainer.net.clock.now
        self.every.reset()

    def on_batch(self, trainer: Trainer, loss: float) -> None:
        if self.every.step():
            trainer.pause()

    def on_pause(self, trainer: Trainer) -> None:
        try:
            self._save(trainer)
        except FileError as error:
            goes_on = "" if trainer.stopped or trainer.interrupted else "the run goes on, and "
            warnings.warn(f"{error.message}; {goes_on}{self._on_disk}", RuntimeWarning, stacklevel=2)
            self.every.reset()

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self._save(trainer)

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt) and trainer.untested:
            with contextlib.suppress(FileError):  # the first error is the one to report
                self._save(trainer)
        if isinstance(error, NotFiniteError) and self.place:
            last = f"{self.folder / WEIGHTS} holds {self.place}"
            error.hint = f"{error.hint}; {last}".removeprefix("; ")
        if isinstance(error, FileError):
            error.hint = f"{error.hint}; {self._on_disk}".removeprefix("; ")

    @property
    def _on_disk(self) -> str:
        """What is on the disk, in words."""
        return f"{self.folder / WEIGHTS} still holds {self.place}" if self.place else "nothing was saved yet"

    def _save(self, trainer: Trainer) -> None:
        file = self.folder / WEIGHTS
        if self.keep > 1 and self.place:
            older.keep(file, self._step)
        trainer.save(file, **self.facts)
        self.saved, self.place, self._step = trainer.epoch, trainer.place, trainer.net.clock.now
        older.drop(self.folder, self._step, self.keep - 1)
        self.every.reset()
