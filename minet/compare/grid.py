"""Which runs a comparison needs: every combination of the settings' values, by every seed."""

from __future__ import annotations

import itertools
import pickle
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.runs.listing import FINISHED, Run, text_of, told
from minet.train import modelfile, versions
from minet.train.modelfile import Model

LONGEST = 120  # letters of a folder's name
OPENING, CLOSING = "([{", ")]}"


@dataclass(eq=False)
class Combination:
    """A value for each setting.

    Attributes
    ----------
    settings : dict
        All settings that are given to the model.
    varied : dict
        Those of more than one value.
    same : list of dict
        What is varied in other combinations that make the same net: they need no runs of their own.
    """

    settings: dict[str, Any]
    varied: dict[str, Any]
    same: list[dict[str, Any]] = field(default_factory=list)

    @property
    def labels(self) -> dict[str, str]:
        """What a table says of it: each varied setting's value, or all that come to the same."""
        labels = {}
        for name, value in self.varied.items():
            texts = [text_of(one) for one in (value, *(other[name] for other in self.same))]
            labels[name] = "/".join(dict.fromkeys(texts))
        return labels

    @property
    def name(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.labels.items())


@dataclass(frozen=True)
class Job:
    """A run to be done, or done already: a combination with a seed."""

    combination: Combination
    seed: int
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.combination.name} seed={self.seed}".lstrip()

    def run(self) -> Run | None:
        """What there is of it."""
        return Run.of(self.folder) if self.folder.is_dir() else None


def split(text: str) -> list[str]:
    """Split at the commas that are outside of brackets and quotes: ``"(1, 2),max"`` has two parts."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in OPENING) - (letter in CLOSING)
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def axes(items: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The names after ``--set``, each with its values as they are typed."""
    found: dict[str, list[str]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        values = split(text)
        if not (name.isidentifier() and equals) or not all(values):
            raise MinetError(f"--set {item}: is not NAME=VALUE,VALUE", "--set kernels=1,2,3")
        if name in found:
            raise MinetError(f"--set {name} is given twice", f"--set {name}={','.join(found[name] + values)}")
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise MinetError(f"--set {item}: has {twice} twice", "write each value once")
        found[name] = values
    return list(found.items())


def combinations(
    file_or_name: str, grid: Sequence[tuple[str, list[Any]]], **common: Any
) -> tuple[Model, list[Combination]]:
    """A model, and every combination of the settings' values: those that make one net are one.

    Parameters
    ----------
    grid : sequence of (name, values)
    **common
        Settings that all of them have, such as ``epochs``.

    Raises
    ------
    MinetError
        If the model does not know a setting, or cannot take a value.
    """
    many, found, keys = [name for name, values in grid if len(values) > 1], list[Combination](), list[bytes]()
    model = modelfile.load(file_or_name, **common)
    for values in itertools.product(*(values for _, values in grid)):
        settings = {**common, **dict(zip((name for name, _ in grid), values, strict=True))}
        one = modelfile.load(file_or_name, **settings)
        varied, key = {name: settings[name] for name in many}, _key(one)
        if key and key in keys:
            found[keys.index(key)].same.append(varied)
        else:
            found.append(Combination(one.settings, varied))
            keys.append(key)
    return model, found


def _key(model: Model) -> bytes:
    """What training depends on, as bytes that are the same for the same; empty if that cannot be told."""
    settings = sorted(
        (name, repr(value))
        for name, value in model.settings.items()
        if name in ("batch", "epochs") or model.takers(name) - {"net"}
    )
    try:
        return pickle.dumps((settings, model.net()))
    except Exception:  # its run will tell what is wrong; or it holds a function
        return b""


def jobs(found: Sequence[Combination], seeds: int, folder: Path) -> list[Job]:
    """All runs, seed by seed, so that a comparison that is stopped has something of every combination."""
    return [Job(one, seed, folder / named(one.settings, seed)) for seed in range(seeds) for one in found]


def named(settings: dict[str, Any], seed: int) -> str:
    """A folder's name for settings, whatever their order, with a checksum if it does not hold all of them."""
    text = ",".join(f"{name}={text_of(value)}" for name, value in [*sorted(settings.items()), ("seed", seed)])
    name = re.sub(r"[^\w.,=+()\[\]-]", "_", text, flags=re.ASCII)[:LONGEST]
    return name if name == text else f"{name}-{zlib.crc32(text.encode(errors='backslashreplace')):08x}"


def check(job: Job, model: Model) -> Run | None:
    """What there is of a job's run, which must be of this model as it is now.

    Raises
    ------
    MinetError
        If it is another run, or if the model file has changed since.
    """
    run = job.run()
    if run is None or not run.facts:
        return run
    hint = f"choose another --out, or move {job.folder.parent} away"
    theirs = {name: repr(value) for name, value in run.settings.items()}
    ours = {name: repr(value) for name, value in job.combination.settings.items()}
    if (run.model, theirs, run.facts.get("seed")) != (model.name, ours, job.seed):
        raise MinetError(f"{job.folder}: holds another run: {run.model} {told(run.settings)}", hint)
    if changed := versions.changed(model.path, run.facts):
        raise MinetError(
            f"{job.folder}: {modelfile.place(changed[0])} has changed since this run began", hint
        )
    return run


def left(job: Job, run: Run | None) -> str:
    """What is left to do: "" if nothing is."""
    if run is None or not run.epoch:
        return "train"
    return "" if run.state == FINISHED else f"go on after epoch {run.epoch} of {run.epochs}"
