"""Runs: train a model file in a folder of its own, from the start or from where it stopped.

A run folder, ``runs/<model>`` or the next free ``runs/<model>-2``, holds the log, the checkpoint and plots.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

from minet.backends import Backend
from minet.core.errors import MinetError
from minet.core.finite import NotFiniteError
from minet.core.net import Net
from minet.core.settings import is_real
from minet.data.batches import Batches
from minet.train import checkpoint, folders, modelfile
from minet.train.callbacks import (
    CURVES,
    KERNEL_LOG,
    KERNELS,
    LOG,
    WEIGHTS,
    Checkpointer,
    Curves,
    JsonLog,
    KernelLog,
    Progress,
)
from minet.train.modelfile import Model
from minet.train.number_text import loss_text, number_text
from minet.train.precompile import precompile
from minet.train.records import RECORDED, metrics_in
from minet.train.trainer import Result, Trainer, check_data
from minet.train.trainer import evaluate as test

EDITS = 6  # lines of a changed model file that an error shows


def train(
    file_or_name: str | Path,
    settings: dict[str, Any] | None = None,
    *,
    backend: str | Backend = "auto",
    seed: int | None = None,
    out: Path | None = None,
    resume: bool = False,
    force: bool = False,
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
    force : bool
        Resume even if the model file or settings have changed.

    Returns
    -------
    Result, Path
        The result, and the run folder.
    """
    settings = settings or {}
    with contextlib.ExitStack() as held:
        if resume:
            folder = folders.old(file_or_name, out)
            held.enter_context(folders.locked(folder))
            model, seed = _as_before(file_or_name, folder / WEIGHTS, settings, seed, force)
        else:
            folder = held.enter_context(folders.new(modelfile.find(file_or_name).stem, out))
            model, seed = modelfile.load(file_or_name, **settings), seed or 0
        return _train(model, folder, backend, seed, resume), folder


def _train(model: Model, folder: Path, backend: str | Backend, seed: int, resume: bool) -> Result:
    checkpoint.as_json(model.settings)  # refuses, before the work, what a checkpoint could not hold
    graph, solver, datasets = model.net(), model.solver(), model.datasets()
    with model.named():
        Batches(datasets[0], model.batch)  # refuses a batch that is too large before the net takes memory
    net = Net(graph, model.input_shape, model.batch, model.loss, backend, seed)
    with model.named():
        trainer = Trainer(net, solver, *datasets, model.epochs)
    saving, curves = Checkpointer(folder, **model.facts), Curves(folder, net, model.name)
    trainer.callbacks = [
        Progress(), JsonLog(folder / LOG), KernelLog(folder / KERNEL_LOG, net), saving, curves,
    ]  # fmt: skip
    if resume:
        _restore(trainer, model, folder, curves.complete)
    print(_opening(model, trainer), flush=True)
    precompile(net, trainer.batches.dataset, solver=solver)
    try:
        result = trainer.fit()
    except KeyboardInterrupt:
        if saving.saved:
            print(f"stopped; --resume continues after epoch {saving.saved}", flush=True)
        raise
    print(_ending(result, folder))
    return result


def _restore(trainer: Trainer, model: Model, folder: Path, drawn: bool) -> None:
    """Bring a trainer to where a run stopped, and say what is not as if it had not been stopped."""
    facts = checkpoint.load(folder / WEIGHTS, trainer.net, trainer.solver)
    trainer.epoch = facts["epoch"]
    if untested := facts.get("untested"):
        trainer.untested = {name: untested[name] for name in RECORDED}
    tested = trainer.epoch - bool(trainer.untested)
    trainer.history = history(folder / LOG, tested)
    left = trainer.untested or trainer.epoch < trainer.epochs
    if not left and (drawn or not trainer.history):
        raise MinetError(
            f"{folder}: already trained for {trainer.epoch} epochs (epochs={trainer.epochs})",
            f"use --epochs {trainer.epoch + 1} or more to continue",
        )
    if len(trainer.history) < tested:
        known = f"{len(trainer.history)} of the {tested} epochs done"
        print(f"{folder / LOG}: missing or damaged; log and curves include only {known}")
    epochs = facts["settings"].get("epochs", model.known["epochs"])
    if left and epochs != trainer.epochs:
        rates, before = [], modelfile.load(model.path, **{**model.settings, "epochs": epochs})
        for solver in (trainer.solver, before.solver()):
            solver.epoch = trainer.epoch
            rates.append(solver.rate)
        if rates[0] != rates[1]:
            print(f"the rate goes on at {rates[0]:.4g}, not {rates[1]:.4g}: ", end="")
            print(f"the schedule depends on epochs, now {trainer.epochs} instead of {epochs}")


def evaluate(
    file_or_name: str | Path,
    settings: dict[str, Any] | None = None,
    *,
    weights: Path | None = None,
    backend: str | Backend = "auto",
) -> str:
    """Test a model's weights, by default those of its newest run, and return the result in one line."""
    path = modelfile.find(file_or_name)
    stem = path.stem
    file = folders.latest(file_or_name) if weights is None else Path(weights)
    if (file / WEIGHTS).is_file():
        file /= WEIGHTS
    _, facts = checkpoint.read(file)
    if facts.get("model", stem) != stem:
        raise MinetError(f"{file}: holds weights of {facts['model']}, not of {stem}")
    if not modelfile.is_of(path, facts):
        raise MinetError(f"{file}: holds weights of {facts['file']}, not of {modelfile.place(path)}")
    model = modelfile.load(file_or_name, **{**facts.get("settings", {}), **(settings or {})})
    net = Net(model.net(), model.input_shape, model.batch, model.loss, backend)
    checkpoint.load(file, net)
    _, data = model.datasets()
    if data is None:
        raise model.error("has no test set to evaluate on", "let datasets() return train, test")
    with model.named():
        check_data(data, net)
    precompile(net, data, train=False)
    begin = time.perf_counter()
    loss, metrics = test(net, data)
    seconds = time.perf_counter() - begin
    if not math.isfinite(loss):
        bad = [name for name, a in {**net.params, **net.persistent}.items() if not net.be.sum_is_finite(a)]
        why = f": {bad[0]} is not finite" if bad else ""
        raise NotFiniteError(f"{file}: the loss on {data.name} is {loss}{why}", "retrain at a lower rate")
    edits = modelfile.edits(facts.get("text", model.text), model.text)
    edited = f"; {modelfile.place(path)} has changed since" if edits else ""
    what = ", ".join(
        f"{name} {number_text(name, value)}" for name, value in {**metrics, "loss": loss}.items()
    )
    return f"{what} on {data.name} ({len(data):,} images), {seconds:.1f} s, with {file}{edited}"


def _as_before(
    file_or_name: str | Path, weights: Path, settings: dict[str, Any], seed: int | None, force: bool
) -> tuple[Model, int]:
    """The model and the seed of a run to resume; unless forced, only the number of epochs may change."""
    _, facts = checkpoint.read(weights)
    if not {"model", "epoch", "settings", "batch", "seed", "step"} <= set(facts):
        raise MinetError(f"{weights}: is not the checkpoint of a training run")
    path, folder = modelfile.find(file_or_name), weights.parent
    if facts["model"] != path.stem:
        raise _changed(folder, f"model={path.stem}", f"model={facts['model']}", "name that model")
    model = modelfile.load(file_or_name, **{**facts["settings"], **settings})
    if force:
        return model, facts["seed"] if seed is None else seed
    again = "--force resumes all the same"
    if not modelfile.is_of(path, facts):
        raise _changed(folder, modelfile.place(path), facts["file"], f"start a new run; {again}")
    if lines := modelfile.edits(facts.get("text", model.text), model.text):
        shown = "".join(f"\n  {line}" for line in lines[:EDITS]) + ("\n  ..." if lines[EDITS:] else "")
        raise MinetError(
            f"{folder}: {modelfile.place(path)} has changed since this run began{shown}",
            f"undo that, or start a new run; {again}",
        )
    before = {**model.known, **facts["settings"], "batch": facts["batch"], "seed": facts["seed"]}
    now = {"seed": facts["seed"] if seed is None else seed, "batch": model.batch}
    for name, value in (now | {name: model.settings[name] for name in settings}).items():
        if name != "epochs" and repr(value) != repr(before[name]):
            hint = f"only --epochs may change: leave out the rest, or start a new run; {again}"
            raise _changed(folder, f"{name}={value}", f"{name}={before[name]}", hint)
    return model, facts["seed"]


def _changed(folder: Path, now: str, before: str, hint: str) -> MinetError:
    return MinetError(f"{folder}: cannot resume with {now}, it has {before}", hint)


def history(log: Path, epochs: float) -> list[dict[str, Any]]:
    """Read the records of the first epochs from a log, up to the first line that is not valid."""
    records: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for line in log.read_text().splitlines():
            record = json.loads(line)
            before = records[-1]["epoch"] if records else 0
            if not before < record["epoch"] <= epochs or not all(is_real(record[name]) for name in RECORDED):
                break
            records.append(record)
    return records


def _opening(model: Model, trainer: Trainer) -> str:
    net, settings = trainer.net, [f"{name}={value}" for name, value in model.settings.items()]
    count, train = sum(value.size for value in net.params.values()), trainer.batches.dataset
    resuming = f"; resuming after epoch {trainer.epoch}" if trainer.epoch else ""
    tested = f", {trainer.test.name}: {len(trainer.test):,}" if trainer.test else ", no test set"
    slow = "the emulator is for testing kernels, not for training\n" if net.be.name == "emu" else ""
    return slow + (
        f"{' '.join([model.name, *settings])}: {count:,} parameters on {net.be.name}, batch {net.batch}, "
        f"seed {net.seed}\n{train.name}: {len(train):,} images{tested}{resuming}\n"
    )


def _ending(result: Result, folder: Path) -> str:
    """The closing lines: a run's results, and where its files are."""
    last, speeds = result.history[-1], [record["images_per_second"] for record in result.history]
    measured, loss = metrics_in(last), "test_loss" if "test_loss" in last else "loss"
    rows = {f"test {name}": number_text(name, last[name]) for name in measured} | {
        loss.replace("_", " "): loss_text(last[loss]),
        "epochs": str(last["epoch"]),
        "time": f"{result.seconds:.1f} s",
        "speed": f"{statistics.median(speeds):,.0f} images/s",
    }
    files = {
        CURVES: f"{' and '.join(['loss', *measured])} by epoch",
        KERNELS: "the Gaussian kernels before and after training",
        LOG: "one line per epoch",
        KERNEL_LOG: "the Gaussian kernels of each epoch, for minet view",
        WEIGHTS: "for minet eval and --resume",
    }
    present = {str(folder / name): what for name, what in files.items() if (folder / name).exists()}
    return f"\n{_columns(rows)}\n\n{_columns(present)}"


def _columns(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
