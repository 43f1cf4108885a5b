"""Best: keep the checkpoint of the best epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.train.callback import Callback
from minet.train.optim.solver import state_of
from minet.train.records import Watched
from minet.train.run_files import BEST
from minet.train.trainer import Trainer


class Best(Callback):
    """Keep a checkpoint of the epoch that was best so far, ``best.safetensors``.

    It comes after the callbacks that have a state, and before the `Checkpointer`.

    Parameters
    ----------
    metric : str, optional
        A number of the epochs' records, such as ``"test_loss"``; by default the accuracy of the test, else
        its loss, else that of training.
    larger : bool, optional
        Whether larger is better; by default, whether the metric's name ends in "accuracy".
    file : str or Path, optional
        By default ``best.safetensors`` in the run's folder.

    Attributes
    ----------
    best : float or None
        The metric of the best epoch.
    epoch : int
        The best epoch.
    """

    def __init__(
        self,
        metric: str | None = None,
        larger: bool | None = None,
        file: str | Path | None = None,
    ) -> None:
        self.watched, self.file = Watched(metric, larger), file
        self.best: float | None = None
        self.epoch = 0

    def on_start(self, trainer: Trainer) -> None:
        state_of(trainer.solver, trainer.net)  # refuses, before an epoch is lost, what could not be resumed
        if self.file is None and trainer.folder is None:
            raise MinetError("Best does not know where to save", 'Best(file="best.safetensors")')

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        if self.watched.better(record, self.best):
            self.best, self.epoch = float(record[self.watched.name(record)]), record["epoch"]
            trainer.save(self.file or trainer.folder / BEST)  # type: ignore[operator]

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "epoch": self.epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        self.best, self.epoch = state["best"], state["epoch"]
