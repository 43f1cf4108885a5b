"""JsonLog and KernelLog: what each epoch measured and learned, as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.files import write_whole
from minet.core.net import Net
from minet.train import kernel_log
from minet.train.callback import Callback
from minet.train.trainer import Trainer


class JsonLog(Callback):
    """Write the history as JSON lines, one object per epoch; the file is complete at any time."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        try:
            lines = "".join(json.dumps(record, default=float) + "\n" for record in trainer.history)
        except (TypeError, ValueError) as error:
            found = f"{self.path}: a callback has added to the epoch's record what JSON cannot hold: {error}"
            raise MinetError(found, "add numbers, or strings") from error
        write_whole(self.path, lines.encode())


class KernelLog(Callback):
    """Write the Gaussian kernels of each epoch as JSON lines (`minet.train.kernel_log`), if there are any.

    A run that is resumed keeps the lines of the epochs that its checkpoint has, and ends with the same file.

    Parameters
    ----------
    path : str or Path
    net : Net
        Not yet trained or loaded: its kernels as they are now are those of epoch 0.
    """

    def __init__(self, path: str | Path, net: Net) -> None:
        self.path, before = Path(path), kernel_log.kernels(net)
        self.lines = {0: kernel_log.line(0, before)} if before else {}

    def on_start(self, trainer: Trainer) -> None:
        if self.lines and trainer.epoch:
            self.lines |= {epoch: text for epoch, _, text in kernel_log.lines(self.path, trainer.epoch)}

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        if self.lines:
            self.lines[trainer.epoch] = kernel_log.line(trainer.epoch, kernel_log.kernels(trainer.net))
            write_whole(self.path, "".join(f"{text}\n" for text in self.lines.values()).encode())
