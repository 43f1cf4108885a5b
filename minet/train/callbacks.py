"""Callbacks that watch a training run: progress, log, checkpoints and plots."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minet.core.files import FileError, write_whole
from minet.core.finite import NotFiniteError
from minet.core.net import Net
from minet.train import checkpoint, plots
from minet.train.number_text import loss_text, percent_text
from minet.train.precompile import NOTICE
from minet.train.trainer import Callback, Result, Trainer

WEIGHTS, LOG, CURVES, KERNELS = "weights.safetensors", "log.jsonl", "curves.png", "kernels.png"
LAST_GOOD = "last_good.safetensors"
COLUMNS = {"epoch": 7, "loss": 10, "test loss": 11, "accuracy": 11, "rate": 10, "time": 10, "images/s": 10}


class Progress(Callback):
    """One line per epoch and, on a terminal, a progress bar for the steps.

    The first run on a machine compiles kernels, which takes a while. A note says so; on a terminal the bar
    names each kernel.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to print; by default standard output.
    """

    def __init__(self, console: Any = None) -> None:
        self.console = console
        self.bar: Any = None
        self.watching = contextlib.ExitStack()
        self.announced = False

    def on_start(self, trainer: Trainer) -> None:
        from numba.core import event
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.console = self.console or Console()
        self.bar = Bar(
            TextColumn("  epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        total = len(trainer.batches)
        self.task = self.bar.add_task("", total=total, epoch=trainer.epoch + 1, loss="")
        self._print("".join(f"{name:>{width}}" for name, width in COLUMNS.items()), style="bold")
        self.bar.start()

        listener = compile_listener(self._compiling)
        self.watching.enter_context(event.install_listener("numba:compile", listener))

    def _compiling(self, kernel: str) -> None:
        self.bar.update(self.task, loss=f"compiling {kernel}", refresh=True)
        if not self.announced and not self.console.is_terminal:
            self._print(f"  {NOTICE}")
        self.announced = True

    def on_batch(self, trainer: Trainer, loss: float) -> None:
        self.bar.update(self.task, advance=1, loss=f"loss {loss_text(loss)}")

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        cells = (
            f"{record['epoch']}/{trainer.epochs}",
            loss_text(record["loss"]),
            loss_text(record["test_loss"]),
            percent_text(record["accuracy"]),
            f"{record['rate']:.4g}",
            f"{record['seconds']:.2f} s",
            f"{record['images_per_second']:,.0f}",
        )
        self._print("".join(f"{cell:>{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True)))
        if trainer.epoch < trainer.epochs:
            self.bar.reset(self.task, epoch=trainer.epoch + 1, loss="")

    def on_end(self, trainer: Trainer, result: Result) -> None:
        self.watching.close()
        self.bar.stop()

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        self.watching.close()
        if self.bar:
            self.bar.stop()

    def _print(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, soft_wrap=True, highlight=False, markup=False)


def compile_listener(notify: Callable[[str], None]) -> Any:
    """A listener that calls `notify` with the name of each function Numba compiles, except nested ones."""
    from numba.core import event

    class Listener(event.Listener):
        inside = 0

        def on_start(self, event: Any) -> None:
            if not self.inside:
                notify(event.data["dispatcher"].py_func.__name__)
            self.inside += 1

        def on_end(self, event: Any) -> None:
            self.inside -= 1

    return Listener()


class JsonLog(Callback):
    """Write the history as JSON lines, one object per epoch; the file is complete at any time."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in trainer.history)
        write_whole(self.path, lines.encode())


class Checkpointer(Callback):
    """Save a checkpoint after each epoch, with what a later run needs to resume from it.

    If the loss stops being finite in mid-epoch, the parameters before that step are saved to another file.

    Parameters
    ----------
    folder : str or Path
    **facts
        More facts to save, such as the model's name and settings.
    """

    def __init__(self, folder: str | Path, **facts: Any) -> None:
        self.folder, self.facts = Path(folder), facts

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self._save(WEIGHTS, trainer)

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        net = trainer.net
        kept = [*net.params.values(), *net.persistent.values()]
        if isinstance(error, NotFiniteError) and net.clock.step and all(map(net.be.sum_is_finite, kept)):
            with contextlib.suppress(FileError):  # the first error is the one to report
                path = self._save(LAST_GOOD, trainer)
                error.hint = f"{error.hint}; the parameters before that step are in {path}".removeprefix("; ")

    def _save(self, name: str, trainer: Trainer) -> Path:
        data = [trainer.batches.dataset.name, trainer.test.name]
        facts = {"epoch": trainer.epoch, "batch": trainer.net.batch, "data": data, **self.facts}
        checkpoint.save(self.folder / name, trainer.net, trainer.solver, **facts)
        return self.folder / name


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

    def __init__(self, folder: str | Path, net: Net, name: str) -> None:
        self.folder, self.name, self.before = Path(folder), name, plots.kernels(net)

    def on_end(self, trainer: Trainer, result: Result) -> None:
        plots.curves(self.folder / CURVES, result.history, self.name)
        if self.before:
            plots.gaussian_kernels(self.folder / KERNELS, self.before, plots.kernels(trainer.net), self.name)
