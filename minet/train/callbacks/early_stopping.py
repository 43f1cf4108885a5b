"""EarlyStopping: end a run that no longer becomes better."""

from __future__ import annotations

from typing import Any

from minet.core.errors import MinetError
from minet.core.settings import is_real, is_whole
from minet.train.callback import Callback
from minet.train.records import Watched
from minet.train.trainer import Trainer


class EarlyStopping(Callback):
    """End the run when so many epochs in a row were no better than the best before.

    A run that has ended so ends at once when it is resumed.

    Parameters
    ----------
    patience : int
        Epochs.
    metric : str, optional
        A number of the epochs' records, such as ``"test_loss"``; by default the accuracy of the test, else
        its loss, else that of training.
    least : float
        By how much a better epoch must be better.
    larger : bool, optional
        Whether larger is better; by default, whether the metric's name ends in "accuracy".
    """

    def __init__(
        self, patience: int = 5, metric: str | None = None, least: float = 0.0, larger: bool | None = None
    ) -> None:
        if not is_whole(patience) or patience < 1:
            raise MinetError(f"patience must be a whole number of at least 1, got {patience!r}")
        if not is_real(least) or least < 0:
            raise MinetError(f"least must be a number of at least 0, got {least!r}")
        self.patience, self.least, self.watched = patience, least, Watched(metric, larger)
        self.best: float | None = None
        self.epoch, self.waited, self.name = 0, 0, ""

    def on_start(self, trainer: Trainer) -> None:
        self._judge(trainer)

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.waited += 1
        if self.watched.better(record, self.best, self.least):
            self.name = self.watched.name(record)
            self.best, self.epoch, self.waited = float(record[self.name]), record["epoch"], 0
        self._judge(trainer)

    def _judge(self, trainer: Trainer) -> None:
        if self.waited >= self.patience:
            best = f"none was better than {self.name.replace('_', ' ')} {self.best:.4g} of epoch {self.epoch}"
            trainer.stop(f"of the last {self.waited} epochs {best}")

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "epoch": self.epoch, "waited": self.waited, "name": self.name}

    def load_state(self, state: dict[str, Any]) -> None:
        self.best, self.epoch = state["best"], state["epoch"]
        self.waited, self.name = state["waited"], state["name"]
