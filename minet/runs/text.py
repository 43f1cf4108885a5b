"""What a run says in the terminal before its first epoch and after its last."""

from __future__ import annotations

import shlex
import statistics
from pathlib import Path

from minet.runs.about import ABOUT
from minet.train.modelfile import Model
from minet.train.number_text import loss_text, number_text
from minet.train.records import metrics_in
from minet.train.run_files import (
    AVERAGE,
    BEST,
    CURVES,
    EVENTS,
    KERNEL_LOG,
    KERNELS,
    LOG,
    OLDER,
    RATES,
    STATISTICS,
    WEIGHTS,
)
from minet.train.trainer import Result, Trainer


def opening(model: Model, trainer: Trainer, resumed: Path | None = None) -> str:
    """What is trained, on what, and from which checkpoint if the run is resumed."""
    net, settings = trainer.net, [f"{name}={value}" for name, value in model.settings.items()]
    count, train = sum(value.size for value in net.params.values()), trainer.batches.dataset
    tested = f", {trainer.test.name}: {len(trainer.test):,}" if trainer.test else ", no test set"
    slow = "the emulator is for testing kernels, not for training\n" if net.be.name == "emu" else ""
    resuming = f"; resuming after {trainer.place}" if resumed else ""
    taken = f"from {resumed}\n" if resumed else ""
    made = f"{count:,} parameters on {net.be.name}, batch {trainer.batches.whole}, seed {net.seed}"
    return slow + trainer.ranks.opening() + (
        f"{' '.join([model.name, *settings])}: {made}\n"
        f"{train.name}: {len(train):,} images{tested}{resuming}\n{taken}"
    )  # fmt: skip


def how_to_go_on(file_or_name: str | Path, folder: Path, place: str) -> str:
    """For a run that was stopped: where it goes on, and the command for it."""
    command = f"minet train {shlex.quote(str(file_or_name))} --resume --out {shlex.quote(str(folder))}"
    return f"stopped; --resume continues after {place}\n  {command}"


def ending(result: Result, folder: Path) -> str:
    """The closing lines: a run's results, and where its files are."""
    rows = {"stopped": result.stopped} if result.stopped else {}
    if result.history:
        last, speeds = result.history[-1], [record["images_per_second"] for record in result.history]
        measured, loss = metrics_in(last), "test_loss" if "test_loss" in last else "loss"
        rows |= {f"test {name}": number_text(name, last[name]) for name in measured} | {
            loss.replace("_", " "): loss_text(last[loss]),
            "epochs": str(last["epoch"]),
            "time": f"{result.seconds:.1f} s",
            "speed": f"{statistics.median(speeds):,.0f} images/s",
        }
    measured = metrics_in(result.history[-1]) if result.history else []
    files = {
        CURVES: f"{' and '.join(['loss', *measured])} by epoch",
        KERNELS: "the Gaussian kernels before and after training",
        LOG: "one line per epoch",
        KERNEL_LOG: "the Gaussian kernels of each epoch, for minet view",
        RATES: "the learning rate by steps",
        STATISTICS: "outputs, parameters and gradients by layer",
        EVENTS: "for tensorboard --logdir",
        BEST: "the best epoch",
        AVERAGE: "the average of the parameters",
        OLDER: "the checkpoints before the last",
        ABOUT: "settings and machine, for minet report",
        WEIGHTS: "for minet eval and --resume",
    }
    present = {str(folder / name): what for name, what in files.items() if (folder / name).exists()}
    return f"\n{_columns(rows)}\n\n{_columns(present)}"


def _columns(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
