"""Runs as they are found: what each is of, how far it is, and whether it can go on."""

from __future__ import annotations

import ast
import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.files import FileError
from minet.runs import about, folders
from minet.runs.runs import history
from minet.train import checkpoint, older
from minet.train.callbacks import CURVES, WEIGHTS
from minet.train.number_text import number_text
from minet.train.records import metrics_in

FINISHED, INTERRUPTED, RUNNING, BROKEN = "finished", "interrupted", "running", "broken"


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes
    ----------
    folder : Path
    state : str
        "finished", "interrupted" (``--resume`` goes on), "running", or "broken".
    why : str
        If it is broken, the reason.
    facts : dict
        What it says of itself, in ``run.json`` or else in its checkpoint: model, settings, seed and so on.
    records : list of dict
        Its log, one per epoch.
    epoch, epochs : int
        Epochs done, and how many there will be; 0 if that is not known.
    """

    folder: Path
    state: str
    why: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    epoch: int = 0
    epochs: int = 0

    @classmethod
    def of(cls, folder: Path) -> Run:
        """Read a run folder; nothing in it is executed, and no arrays are read."""
        facts, records, why = about.read(folder), _log(folder), ""
        saved: dict[str, Any] = {}
        try:
            saved = saved_facts(folder)
        except FileError as error:
            why = error.message if has_checkpoint(folder) else "its run ended before its first checkpoint"
        facts = {**saved, **facts}
        done = int(saved.get("epoch", 0)) - bool(saved.get("untested"))
        epoch = max(records[-1]["epoch"] if records else 0, done)
        total = int(facts.get("epochs", facts.get("settings", {}).get("epochs", 0)))
        complete = facts.get("ended") or (epoch >= total if total else (folder / CURVES).is_file())
        state = FINISHED if complete and epoch else INTERRUPTED
        if failed := str(facts.get("error", "")):
            state, why = BROKEN, failed
        elif why:
            state = BROKEN
        if _is_held(folder):
            state, why = RUNNING, ""
        return cls(folder, state, why, facts, records, epoch, total)

    @property
    def model(self) -> str:
        return str(self.facts.get("model", ""))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were given."""
        return dict(self.facts.get("settings", {}))

    @property
    def values(self) -> dict[str, str]:
        """All settings, given or not, as they are typed."""
        values = {}
        for name, text in self.facts.get("defaults", {}).items():
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                text = text_of(ast.literal_eval(str(text)))
            values[str(name)] = str(text)
        return values | {name: text_of(value) for name, value in self.settings.items()}

    @property
    def measured(self) -> tuple[str, float] | None:
        """Name and value of what the last epoch is judged by: its first metric, else its loss."""
        if not self.records:
            return None
        name = headline(self.records[-1])
        return name, float(self.records[-1][name])

    @property
    def measured_text(self) -> str:
        """`measured` as it is shown; "" without a record."""
        if self.measured is None:
            return ""
        name, value = self.measured
        text = number_text(name, value)
        return text if name == "accuracy" else f"{name} {text}"

    @property
    def whole_log(self) -> bool:
        """Whether the log goes as far as the checkpoint."""
        return bool(self.records) and self.records[-1]["epoch"] >= self.epoch

    @property
    def seconds(self) -> float:
        """How long its epochs' steps took, without the tests."""
        return float(sum(record["seconds"] for record in self.records))

    @property
    def command(self) -> str:
        """The command that trains the same again; empty if it is not known of which model it is."""
        if "file" not in self.facts:
            return ""
        settings = self.settings
        words = ["minet", "train", self.facts["file"]]
        for name in ("epochs", "batch"):
            if name in settings:
                words += [f"--{name}", str(settings.pop(name))]
        words += ["--seed", str(self.facts.get("seed", 0))]
        if settings:
            words += ["--set", *(f"{name}={text_of(value)}" for name, value in settings.items())]
        return shlex.join(words)


def _log(folder: Path) -> list[dict[str, Any]]:
    """A run's records, without what is not a number in them."""
    records = history(folder / folders.LOG, float("inf"))
    return [{name: n for name, n in one.items() if type(n) in (int, float)} for one in records]


def has_checkpoint(folder: Path) -> bool:
    """Whether there is one to go on from, whole or not."""
    return bool(older.candidates(folder))


def saved_facts(folder: Path) -> dict[str, Any]:
    """The facts of a run's checkpoint; FileError if it has none, or if it is damaged."""
    errors = list[FileError]()
    for file in older.candidates(folder):
        try:
            return checkpoint.facts_of(file)
        except FileError as error:
            errors.append(error)
    raise errors[0] if errors else FileError(f"{folder / WEIGHTS}: no such file")


def headline(record: dict[str, Any]) -> str:
    """The name of what a record is judged by: its first metric, else the test's loss, else its own."""
    return [*metrics_in(record), *(name for name in ("test_loss", "loss") if name in record)][0]


def text_of(value: Any) -> str:
    """A setting as it is typed: a string without quotes, unless it would be read as something else."""
    if isinstance(value, str) and "," not in value:
        try:
            ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return repr(value)


def told(settings: dict[str, Any]) -> str:
    """Settings as they are typed."""
    return " ".join(f"{name}={text_of(value)}" for name, value in settings.items())


def found(folder: Path = folders.RUNS) -> Iterator[Path]:
    """The run folders in a folder, and those one deeper, where `minet compare` puts them; oldest first."""
    with contextlib.suppress(OSError):
        inside = [path for path in folder.glob("*") if path.is_dir()]
        inside += [path for parent in inside for path in parent.glob("*") if path.is_dir()]
        yield from sorted(filter(_is_run, inside), key=lambda path: (path.stat().st_mtime, path.name))


def _is_run(folder: Path) -> bool:
    return folders.holds_run(folder) or (folder / about.ABOUT).is_file() or _is_held(folder)


def _is_held(folder: Path) -> bool:
    """Whether a run is writing there."""
    try:
        with folders.locked(folder):
            return False
    except folders.Busy:
        return True
    except (OSError, MinetError):
        return False
