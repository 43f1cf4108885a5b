"""TensorBoard: a run's numbers as TensorBoard reads them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.settings import is_real, is_whole
from minet.train.callback import Callback, Result
from minet.train.run_files import EVENTS
from minet.train.trainer import Trainer


class TensorBoard(Callback):
    """Write the loss and the rate of steps and all numbers of epochs for TensorBoard.

    ``pip install 'minet-layers[tensorboard]'``, then ``tensorboard --logdir runs``. Steps that a resumed run
    takes again are written again, with the same values.

    Parameters
    ----------
    every : int
        Write each step, or each of so many.
    folder : str or Path, optional
        By default ``tensorboard`` in the run's folder.
    """

    def __init__(self, every: int = 1, folder: str | Path | None = None) -> None:
        if not is_whole(every) or every < 1:
            raise MinetError(f"every must be a whole number of at least 1, got {every!r}")
        self.every, self.folder = every, folder
        self.writer: Any = None

    def on_start(self, trainer: Trainer) -> None:
        folder = self.folder or (trainer.folder and trainer.folder / EVENTS)
        if folder is None:
            raise MinetError("TensorBoard does not know where to write", 'TensorBoard(folder="events")')
        try:
            module = importlib.import_module("tensorboard.summary")
        except ImportError as error:
            raise MinetError(
                f"TensorBoard needs the package tensorboard: {error}",
                "pip install 'minet-layers[tensorboard]'",
            ) from error
        self.writer = module.Writer(str(folder))

    def on_batch(self, trainer: Trainer, loss: float) -> None:
        if trainer.steps % self.every == 0:
            self.writer.add_scalar("step/loss", loss, trainer.steps)
            self.writer.add_scalar("step/rate", trainer.rate, trainer.steps)

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        for name, value in record.items():
            if name not in ("epoch", "step") and is_real(value):
                self.writer.add_scalar(f"epoch/{name}", value, trainer.steps)
        self.writer.flush()

    def on_pause(self, trainer: Trainer) -> None:
        self.writer.flush()

    def on_end(self, trainer: Trainer, result: Result) -> None:
        self._close()

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
