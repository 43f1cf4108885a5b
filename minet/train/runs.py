"""Runs: train a model file in a folder of its own, from the start or from where it stopped.

A run folder, ``runs/<model>`` or the next free ``runs/<model>-2``, holds the log, the checkpoint and plots.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minet.backends import Backend
from minet.core.errors import MinetError
from minet.core.finite import NotFiniteError
from minet.core.net import Net
from minet.core.settings import is_real
from minet.train import checkpoint, modelfile
from minet.train.callbacks import (
    CURVES,
    KERNELS,
    LOG,
    WEIGHTS,
    Checkpointer,
    Curves,
    JsonLog,
    Progress,
)
from minet.train.modelfile import Model
from minet.train.number_text import loss_text, percent_text
from minet.train.precompile import precompile
from minet.train.trainer import Result, Trainer, check_data
from minet.train.trainer import evaluate as test

RUNS = Path("runs")
NUMBERS = ("epoch", "step", "loss", "test_loss", "accuracy", "rate", "seconds", "images_per_second")


def train(
    file_or_name: str | Path,
    settings: dict[str, Any] | None = None,
    *,
    backend: str | Backend = "auto",
    seed: int | None = None,
    out: Path | None = None,
    resume: bool = False,
) -> tuple[Result, Path]:
    """Train a model, and keep its log, weights and plots in a run folder.

    Parameters
    ----------
    file_or_name : str or Path
    settings : dict, optional
        As for `minet.train.modelfile.load`.
    backend : str
    seed : int, optional
        By default 0, or the seed of the run being resumed.
    out : Path, optional
        The run folder; by default the next free one in ``runs/`` or, with `resume`, the newest.
    resume : bool
        Continue from the run's checkpoint, with its settings and seed.

    Returns
    -------
    Result, Path
        The result, and the run folder.
    """
    stem = modelfile.find(file_or_name).stem
    if resume:
        folder = out or latest(stem)
        model, seed = _as_before(file_or_name, folder / WEIGHTS, settings or {}, seed)
    else:
        folder = _free(stem) if out is None else _empty(out)
        model, seed = modelfile.load(file_or_name, **settings or {}), seed or 0
    net = Net(model.net(), model.input_shape, model.batch, model.loss, backend, seed)
    solver, datasets = model.solver(), model.datasets()
    with model.named():
        trainer = Trainer(net, solver, *datasets, model.epochs)
    trainer.callbacks = [
        Progress(),
        JsonLog(folder / LOG),
        Checkpointer(folder, model=model.name, settings=model.settings),
        Curves(folder, net, model.name),
    ]
    if resume:
        facts = checkpoint.load(folder / WEIGHTS, net, trainer.solver)
        trainer.epoch = facts["epoch"]
        if trainer.epoch >= trainer.epochs:
            raise MinetError(
                f"{folder}: already trained for {trainer.epoch} epochs (epochs={trainer.epochs})",
                f"use --epochs {trainer.epoch + 1} or more to continue",
            )
        trainer.history = _history(folder / LOG, trainer.epoch)
        if len(trainer.history) < trainer.epoch:
            known = f"{len(trainer.history)} of the {trainer.epoch} epochs done"
            print(f"{folder / LOG}: missing or damaged; log and curves include only {known}")
    with _made(folder):
        print(_opening(model, trainer), flush=True)
        precompile(net, trainer.batches.dataset)
        try:
            result = trainer.fit()
        except KeyboardInterrupt:
            if trainer.epoch:
                print(f"stopped; --resume continues after epoch {trainer.epoch}", flush=True)
            raise
    print(_ending(result, folder))
    return result, folder


def evaluate(
    file_or_name: str | Path,
    settings: dict[str, Any] | None = None,
    *,
    weights: Path | None = None,
    backend: str | Backend = "auto",
) -> str:
    """Test a model's weights, by default those of its newest run, and return the result in one line."""
    stem = modelfile.find(file_or_name).stem
    file = latest(stem) if weights is None else Path(weights)
    if (file / WEIGHTS).is_file():
        file /= WEIGHTS
    _, facts = checkpoint.read(file)
    if facts.get("model", stem) != stem:
        raise MinetError(f"{file}: holds weights of {facts['model']}, not of {stem}")
    model = modelfile.load(file_or_name, **{**facts.get("settings", {}), **(settings or {})})
    net = Net(model.net(), model.input_shape, model.batch, model.loss, backend)
    checkpoint.load(file, net)
    _, data = model.datasets()
    with model.named():
        check_data(data, net)
    precompile(net, data, train=False)
    begin = time.perf_counter()
    loss, accuracy = test(net, data)
    seconds = time.perf_counter() - begin
    if not math.isfinite(loss):
        bad = [name for name, a in {**net.params, **net.persistent}.items() if not net.be.sum_is_finite(a)]
        why = f": {bad[0]} is not finite" if bad else ""
        raise NotFiniteError(f"{file}: the loss on {data.name} is {loss}{why}", "retrain at a lower rate")
    count = f"{round(accuracy * len(data)):,} of {len(data):,}"
    what = f"{percent_text(accuracy)} correct on {data.name} ({count}), loss {loss_text(loss)}"
    return f"{what}, {seconds:.1f} s, with {file}"


def latest(stem: str) -> Path:
    """The run folder that holds a model's newest checkpoint."""
    found = [folder for folder in RUNS.glob("*") if re.fullmatch(rf"{re.escape(stem)}(-\d+)?", folder.name)]
    found = [folder for folder in found if (folder / WEIGHTS).is_file()]
    for folder in sorted(found, key=lambda folder: (folder / WEIGHTS).stat().st_mtime_ns, reverse=True):
        if checkpoint.read(folder / WEIGHTS)[1].get("model") == stem:  # stem-2 may also be a model's name
            return folder
    raise MinetError(f"{RUNS / stem}: no run of {stem} with a {WEIGHTS}", f"minet train {stem}")


def _as_before(
    file_or_name: str | Path, weights: Path, settings: dict[str, Any], seed: int | None
) -> tuple[Model, int]:
    """The model and the seed of a run to resume; only the number of epochs may change."""
    _, facts = checkpoint.read(weights)
    if not {"model", "epoch", "settings", "batch", "seed", "step"} <= set(facts):
        raise MinetError(f"{weights}: is not the checkpoint of a training run")
    before = {**facts["settings"], "batch": facts["batch"], "seed": facts["seed"], "model": facts["model"]}
    now = {"model": modelfile.find(file_or_name).stem, "seed": facts["seed"] if seed is None else seed}
    model = None
    if now["model"] == before["model"]:
        model = modelfile.load(file_or_name, **{**facts["settings"], **settings})
        now |= {"batch": model.batch} | {name: model.settings[name] for name in settings}
        before = model.known | before
    for name, value in now.items():
        if name != "epochs" and json.dumps(value, default=repr) != json.dumps(before[name], default=repr):
            hint = "only --epochs may change: leave out the rest, or start a new run"
            raise MinetError(
                f"{weights.parent}: cannot resume with {name}={value}, it has {name}={before[name]}", hint
            )
    assert model is not None  # otherwise the names differ, which the loop has reported
    return model, facts["seed"]


def _history(log: Path, epochs: int) -> list[dict[str, Any]]:
    """Read the records of the first epochs from a log, up to the first line that is not valid."""
    history: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for line in log.read_text().splitlines():
            record = json.loads(line)
            before = history[-1]["epoch"] if history else 0
            if not before < record["epoch"] <= epochs or not all(is_real(record[name]) for name in NUMBERS):
                break
            history.append(record)
    return history


def _free(stem: str) -> Path:
    folder, number = RUNS / stem, 1
    while folder.exists():
        number += 1
        folder = RUNS / f"{stem}-{number}"
    return folder


def _empty(folder: Path) -> Path:
    if folder.is_dir() and any(folder.iterdir()):
        raise MinetError(f"{folder}: is not empty", "choose another --out, or continue its run with --resume")
    return folder


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Create a run folder; remove it again if the run fails before it has written anything."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinetError(f"{folder}: cannot be created: {error.strerror}", "choose another --out") from error
    if not os.access(folder, os.W_OK):
        raise MinetError(f"{folder}: cannot be written to", "choose another --out")
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()  # fails if the folder is not empty
        raise


def _opening(model: Model, trainer: Trainer) -> str:
    net, settings = trainer.net, [f"{name}={value}" for name, value in model.settings.items()]
    count = sum(value.size for value in net.params.values())
    resuming = f"; resuming after epoch {trainer.epoch}" if trainer.epoch else ""
    slow = "the emulator is for testing kernels, not for training\n" if net.be.name == "emu" else ""
    return slow + (
        f"{' '.join([model.name, *settings])}: {count:,} parameters on {net.be.name}, batch {net.batch}, "
        f"seed {net.seed}\n{trainer.batches.dataset.name}: {len(trainer.batches.dataset):,} images, "
        f"{trainer.test.name}: {len(trainer.test):,}{resuming}\n"
    )


def _ending(result: Result, folder: Path) -> str:
    """The closing lines: a run's results, and where its files are."""
    last, speeds = result.history[-1], [record["images_per_second"] for record in result.history]
    rows = {
        "test accuracy": percent_text(last["accuracy"]),
        "test loss": loss_text(last["test_loss"]),
        "epochs": str(last["epoch"]),
        "time": f"{result.seconds:.1f} s",
        "speed": f"{statistics.median(speeds):,.0f} images/s",
    }
    files = {
        CURVES: "loss and accuracy by epoch",
        KERNELS: "the Gaussian kernels before and after training",
        LOG: "one line per epoch",
        WEIGHTS: "for minet eval and --resume",
    }
    present = {str(folder / name): what for name, what in files.items() if (folder / name).exists()}
    return f"\n{_columns(rows)}\n\n{_columns(present)}"


def _columns(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
