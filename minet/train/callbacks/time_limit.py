"""TimeLimit: end a run after a time, with all that it has learned saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from minet.core.errors import MinetError
from minet.core.settings import is_real
from minet.train.callback import Callback
from minet.train.every import seconds_of
from minet.train.trainer import Trainer


class TimeLimit(Callback):
    """End the run after a time, with the step that is under way.

    A `Checkpointer` saves it there, and a resumed run has the time anew.

    Parameters
    ----------
    limit : str or float
        Such as ``"2h"``, ``"30m"`` or ``"90s"``; a number is seconds.
    clock : callable
        Returns seconds.
    """

    def __init__(self, limit: str | float, clock: Callable[[], float] = time.monotonic) -> None:
        seconds: Any = seconds_of(limit) if isinstance(limit, str) else limit
        if not is_real(seconds) or seconds <= 0:
            raise MinetError(f"{limit!r} is no time limit", '"2h", "30m", "90s", or seconds')
        self.limit, self.seconds, self.clock = limit, float(seconds), clock
        self.since = 0.0

    def on_start(self, trainer: Trainer) -> None:
        self.since = self.clock()

    def on_batch(self, trainer: Trainer, loss: float) -> None:
        if not trainer.stopped and self.clock() - self.since >= self.seconds:
            told = self.limit if isinstance(self.limit, str) else f"{self.limit:g} s"
            trainer.stop(f"the time limit of {told} is over")
