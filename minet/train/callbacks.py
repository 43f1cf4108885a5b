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
from minet.train import checkpoint, kernel_log, plots
from minet.train.number_text import loss_text, number_text
from minet.train.pixels import Pixels
from minet.train.precompile import NOTICE
from minet.train.trainer import Callback, Result, Trainer

WEIGHTS, LOG, CURVES, KERNELS = "weights.safetensors", "log.jsonl", "curves.png", "kernels.png"
KERNEL_LOG = "kernels.jsonl"
SETTLED = 8  # steps after which a card has captured one, if it can
WIDTH = 10  # of a column in the table of epochs
HEADINGS = {"test_loss": "test loss", "seconds": "time", "images_per_second": "images/s"}


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
        self.announced = self.told = False
        self.widths: dict[str, int] = {}  # of the table's columns, by their names in a record

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
        cells = {name: number_text(name, value) for name, value in record.items() if name != "step"}
        cells["epoch"] = f"{record['epoch']}/{trainer.epochs}"
        if not self.widths:  # only now: what is tested and measured is seen in the first record
            headings = {name: HEADINGS.get(name, name) for name in cells}
            self.widths = {name: max(WIDTH, len(text) + 2) for name, text in headings.items()}
            self.widths["epoch"] = max(7, len(cells["epoch"]) + 1)
            self._row(headings, style="bold")
        self._row(cells)
        if trainer.net.clock.now > SETTLED and not self.told and (why := trainer.net.steps.why):
            self._print(f"  each step is launched kernel by kernel: {why}")
            self.told = True
        if trainer.epoch < trainer.epochs:
            self.bar.reset(self.task, epoch=trainer.epoch + 1, loss="")

    def on_end(self, trainer: Trainer, result: Result) -> None:
        self.watching.close()
        self.bar.stop()

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        self.watching.close()
        if self.bar:
            self.bar.stop()

    def _row(self, cells: dict[str, str], style: str | None = None) -> None:
        self._print("".join(f"{cells[name]:>{width}}" for name, width in self.widths.items()), style)

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


class Checkpointer(Callback):
    """Save a checkpoint after each epoch, with what a later run needs to resume from it.

    If the user stops the run while an epoch is tested, that epoch is saved too: only its test is left to do.
    A process that is killed there loses the epoch. It is not saved before its test, because a checkpoint must
    not replace the last one whose losses are finite until its own test loss is known.

    Parameters
    ----------
    folder : str or Path
    **facts
        More facts to save, such as the model's name and settings.

    Attributes
    ----------
    saved : int
        The epochs done in the checkpoint on disk; 0 without one.
    """

    def __init__(self, folder: str | Path, **facts: Any) -> None:
        self.folder, self.facts, self.saved = Path(folder), facts, 0

    def on_start(self, trainer: Trainer) -> None:
        self.saved = trainer.epoch

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self._save(trainer)

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt) and trainer.untested:
            with contextlib.suppress(FileError):  # the first error is the one to report
                self._save(trainer, untested=trainer.untested)
        if isinstance(error, NotFiniteError) and self.saved:
            last = f"{self.folder / WEIGHTS} holds epoch {self.saved}"
            error.hint = f"{error.hint}; {last}".removeprefix("; ")

    def _save(self, trainer: Trainer, **facts: Any) -> None:
        data = [trainer.batches.dataset.name] + ([trainer.test.name] if trainer.test else [])
        facts |= {"epoch": trainer.epoch, "batch": trainer.net.batch, "data": data, **self.facts}
        facts |= Pixels.of(trainer.batches.dataset).facts
        checkpoint.save(self.folder / WEIGHTS, trainer.net, trainer.solver, **facts)
        self.saved = trainer.epoch


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
        self.folder, self.name, self.before = Path(folder), name, kernel_log.kernels(net)

    @property
    def complete(self) -> bool:
        """Whether all pictures are there."""
        names = [CURVES, KERNELS] if self.before else [CURVES]
        return all((self.folder / name).is_file() for name in names)

    def on_end(self, trainer: Trainer, result: Result) -> None:
        plots.save(plots.curves(result.history, self.name), self.folder / CURVES)
        if self.before:
            after = kernel_log.kernels(trainer.net)
            plots.gaussian_kernels(self.folder / KERNELS, self.before, after, self.name)
