"""Resuming: bring a run to where it was stopped, or say what is not as it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.settings import is_real
from minet.train import modelfile, older, versions
from minet.train.modelfile import Model
from minet.train.pixels import Pixels
from minet.train.records import RECORDED
from minet.train.run_files import LOG, WEIGHTS
from minet.train.trainer import Trainer

EDITS = 6  # lines of a changed model file that an error shows
AGAIN = "--force resumes all the same"


def as_before(
    file_or_name: str | Path, file: Path, facts: dict[str, Any], settings: dict[str, Any], seed: int | None,
    force: bool,
) -> tuple[Model, int]:  # fmt: skip
    """The model and the seed of a run to resume; unless forced, only the number of epochs may change.

    Parameters
    ----------
    file_or_name : str or Path
        The model, as the user gave it.
    file, facts : Path, dict
        The run's checkpoint, and what it says.
    settings, seed : dict, int or None
        What the user wants to be changed.
    force : bool
    """
    if not {"model", "epoch", "settings", "batch", "seed", "step"} <= set(facts):
        raise MinetError(f"{file}: is not the checkpoint of a training run")
    path, folder = modelfile.find(file_or_name), folder_of(file)
    if facts["model"] != path.stem:
        raise _changed(folder, f"model={path.stem}", f"model={facts['model']}", "name that model")
    model = modelfile.load(file_or_name, **{**facts["settings"], **settings})
    model.tag = facts.get("tag", "")
    if force:
        return model, facts["seed"] if seed is None else seed
    if not modelfile.is_of(path, facts):
        raise _changed(folder, modelfile.place(path), facts["file"], f"start a new run; {AGAIN}")
    if found := versions.changed(path, facts):
        file, lines = found
        shown = "".join(f"\n  {line}" for line in lines[:EDITS]) + ("\n  ..." if lines[EDITS:] else "")
        raise MinetError(
            f"{folder}: {modelfile.place(file)} has changed since this run began{shown}",
            f"undo that, or start a new run; {AGAIN}",
        )
    before = {**model.known, **facts["settings"], "batch": facts["batch"], "seed": facts["seed"]}
    now = {"seed": facts["seed"] if seed is None else seed, "batch": model.batch}
    for name, value in (now | {name: model.settings[name] for name in settings}).items():
        if name != "epochs" and repr(value) != repr(before[name]):
            hint = f"only --epochs may change: leave out the rest, or start a new run; {AGAIN}"
            raise _changed(folder, f"{name}={value}", f"{name}={before[name]}", hint)
    return model, facts["seed"]


def folder_of(file: Path) -> Path:
    """The run folder of a checkpoint."""
    return file.parent if file.name.startswith((WEIGHTS.partition(".")[0], "best")) else file.parent.parent


def _changed(folder: Path, now: str, before: str, hint: str) -> MinetError:
    return MinetError(f"{folder}: cannot resume with {now}, it has {before}", hint)


def check_same_data(trainer: Trainer, facts: dict[str, Any], folder: Path) -> None:
    """Raise MinetError if the data differs from a run's in name, number of images, pixels or class names."""
    sets = trainer.sets
    now: dict[str, Any] = {"data": [one.name for one in sets], "images": [len(one) for one in sets]}
    now |= Pixels.of(sets[0]).facts["pixels"] | {"content": trainer.content()}
    before = {**facts, **facts.get("pixels", {})}
    called = {
        "data": "data sets",
        "images": "numbers of images",
        "names": "class names",
        "content": "checksums of images and labels",
    }
    for name, value in now.items():
        if name in before and value != before[name]:
            what = called.get(name, f"{name} of the pixels")
            raise MinetError(
                f"{folder}: cannot resume with other data: the {what} are {value!r:.80}, "
                f"it has {before[name]!r:.80}",
                f"bring back the data of this run, or start a new one; {AGAIN}",
            )


def restore(
    trainer: Trainer,
    model: Model,
    file: Path,
    drawn: bool | None,
    force: bool,
    tell: Callable[[str], Any] = print,
) -> None:
    """Bring a trainer to where a run stopped, and say what is not as if it had not been stopped.

    Parameters
    ----------
    trainer : Trainer
    model : Model
    file : Path
        The checkpoint.
    drawn : bool or None
        Whether the run has all its pictures; None if another process draws them.
    force : bool
        Whether the data may differ.
    tell : callable
        What prints a line.
    """
    folder = folder_of(file)
    facts = trainer.resume(file, strict=not force)
    tested = trainer.epoch - bool(trainer.untested)
    trainer.history = history(folder / LOG, tested)
    left = trainer.untested or trainer.epoch < trainer.epochs
    past = drawn or not trainer.history or trainer.within.batches
    if not left and drawn is not None and past:
        raise MinetError(
            f"{folder}: already trained for {trainer.epoch} epochs (epochs={trainer.epochs})",
            f"use --epochs {trainer.epoch + 1} or more to continue",
        )
    if not force:
        check_same_data(trainer, facts, folder)
    if file != folder / WEIGHTS:  # the newest could not be read: what is resumed takes its place
        older.also(file, folder / WEIGHTS)
    if len(trainer.history) < tested:
        known = f"{len(trainer.history)} of the {tested} epochs done"
        tell(f"{folder / LOG}: missing or damaged; log and curves include only {known}")
    epochs = facts["settings"].get("epochs", model.known["epochs"])
    if left and epochs != trainer.epochs:
        rates, before = [], modelfile.load(model.path, **{**model.settings, "epochs": epochs})
        for solver in (trainer.solver, before.solver()):
            solver.epoch = trainer.epoch
            rates.append(solver.rate)
        if rates[0] != rates[1]:
            why = f"the schedule depends on epochs, now {trainer.epochs} instead of {epochs}"
            tell(f"the rate goes on at {rates[0]:.4g}, not {rates[1]:.4g}: {why}")


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
