"""LearningRateLog: the learning rate, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.settings import is_whole
from minet.train.callback import Callback
from minet.train.line_log import LineLog
from minet.train.run_files import RATES
from minet.train.trainer import Trainer


class LearningRateLog(Callback):
    """Log the learning rate of steps, as lines ``{"step": 120, "epoch": 2.5, "rate": 0.05}``.

    ``step`` counts from 1, and ``epoch`` is what the schedule was asked for.

    Parameters
    ----------
    every : int
        Log each step, or the first of so many.
    file : str or Path, optional
        By default ``rates.jsonl`` in the run's folder; without a folder, `records` alone has the lines.

    Attributes
    ----------
    records : list of dict
        Those of this process.
    """

    def __init__(self, every: int = 1, file: str | Path | None = None) -> None:
        if not is_whole(every) or every < 1:
            raise MinetError(f"every must be a whole number of at least 1, got {every!r}")
        self.every, self.file = every, file
        self.records: list[dict[str, Any]] = []
        self.log: LineLog | None = None

    def on_start(self, trainer: Trainer) -> None:
        if (file := self.file or (trainer.folder and trainer.folder / RATES)) is not None:
            self.log = LineLog(file)
            self.log.begin(trainer.steps)

    def on_batch(self, trainer: Trainer, loss: float) -> None:
        step = trainer.steps
        if (step - 1) % self.every:
            return
        record = {"step": step, "epoch": round((step - 1) / len(trainer.batches), 6), "rate": trainer.rate}
        self.records.append(record)
        if self.log:
            self.log.add(record)
