"""Curves: pictures of a run when it ends."""

from __future__ import annotations

from pathlib import Path

from minet.core.net import Net
from minet.train import kernel_log, plots
from minet.train.callback import Callback, Result
from minet.train.run_files import CURVES, KERNELS
from minet.train.trainer import Trainer


class Curves(Callback):
    """At the end, plot the run: loss and accuracy, and what the Gaussian kernels have learned.

    Parameters
    ----------
    folder : str or Path
    net : Net
        Not yet trained or loaded: its kernels as they are now are drawn as "before".
    name : str
        The model's name, for the title.
    """

    shows_record = True

    def __init__(self, folder: str | Path, net: Net, name: str) -> None:
        self.folder, self.name, self.before = Path(folder), name, kernel_log.kernels(net)

    @property
    def complete(self) -> bool:
        """Whether all pictures are there."""
        names = [CURVES, KERNELS] if self.before else [CURVES]
        return all((self.folder / name).is_file() for name in names)

    def on_end(self, trainer: Trainer, result: Result) -> None:
        if not result.history:
            return  # ended within its first epoch
        plots.save(plots.curves(result.history, self.name), self.folder / CURVES)
        if self.before:
            after = kernel_log.kernels(trainer.net)
            plots.gaussian_kernels(self.folder / KERNELS, self.before, after, self.name)
