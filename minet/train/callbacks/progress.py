"""Progress: what a terminal shows of a training run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from minet.train.callback import Callback, Result
from minet.train.number_text import loss_text, number_text
from minet.train.precompile import NOTICE
from minet.train.trainer import Trainer

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

    shows_record = True

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
        total, done = len(trainer.batches), trainer.within.batches
        self.task = self.bar.add_task("", total=total, completed=done, epoch=trainer.epoch + 1, loss="")
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
        self._print("".join(f"{cells.get(name, ''):>{width}}" for name, width in self.widths.items()), style)

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
