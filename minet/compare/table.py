"""What a comparison found: a row for each combination, over its seeds, as text and as CSV."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import math
import statistics
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from minet.core.errors import MinetError
from minet.report.facts import seconds_text
from minet.runs.listing import FINISHED, Run, headline
from minet.train.number_text import loss_text
from minet.train.records import title


@dataclass
class Row:
    """Runs that differ in their seeds alone.

    Attributes
    ----------
    labels : dict
        What tells the row from others, by setting.
    runs : list of Run
        Those that are finished.
    failed : list of (str, str)
        What others are called, and why they failed.
    """

    labels: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.labels.items()) or "all"

    def values(self, key: str) -> list[float]:
        """A number of the last epochs' records, of those that have it."""
        return [float(run.records[-1][key]) for run in self.runs if run.records and key in run.records[-1]]

    @property
    def seconds(self) -> float:
        return statistics.fmean(run.seconds for run in self.runs) if self.runs else math.nan

    @property
    def parameters(self) -> int | None:
        return next((run.facts["parameters"] for run in self.runs if "parameters" in run.facts), None)

    @property
    def epochs(self) -> int:
        return max((run.epoch for run in self.runs), default=0)

    def mean(self, key: str) -> float:
        return statistics.fmean(values) if (values := self.values(key)) else math.nan

    def spread(self, key: str) -> float:
        """The standard deviation over the seeds; NaN of fewer than two."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def judged(rows: Iterable[Row]) -> str:
    """The name of what rows are judged by: the first metric of the first run, or its loss."""
    runs = (run for row in rows for run in row.runs if run.records)
    return next((headline(run.records[-1]) for run in runs), "accuracy")


def of_runs(runs: Sequence[Run]) -> list[Row]:
    """Rows of finished runs: those that differ in their seeds alone are one, those of one seed are not.

    Raises
    ------
    MinetError
        If one is not finished, or is given twice.
    """
    for i, run in enumerate(runs):
        if run.state == FINISHED and not run.whole_log:
            raise MinetError(f"{run.folder}: its log lacks its last epoch", "minet eval tests its weights")
        if run.state != FINISHED:
            why = run.why or f"it is {run.state}, {run.epoch} of {run.epochs or '?'} epochs are done"
            raise MinetError(f"{run.folder}: is not finished: {why}", "minet train MODEL --resume goes on")
        if run.folder.resolve() in [other.folder.resolve() for other in runs[:i]]:
            raise MinetError(f"{run.folder}: is given twice", "name each run once")
    kinds: list[tuple[dict[str, str], list[Run]]] = []
    for run in runs:
        kind = kind_of(run)
        together = next((those for known, those in kinds if known == kind), None)
        if together is None:
            kinds.append((kind, [run]))
        else:
            together.append(run)
    apart = [(kind | where, those) for kind, same in kinds for where, those in _by_place(same)]
    names = dict.fromkeys(name for kind, _ in apart for name in kind)
    different = [name for name in names if len({kind.get(name) for kind, _ in apart}) > 1]
    versions = {(kind["model"], kind["model file"]) for kind, _ in apart}
    if len(versions) == len({kind["model"] for kind, _ in apart}):  # the model tells as much
        different = [name for name in different if name != "model file"]
    return [Row({name: kind.get(name, "") for name in different}, those) for kind, those in apart]


def _by_place(runs: Sequence[Run]) -> list[tuple[dict[str, str], list[Run]]]:
    """Runs of one kind together, or by their folders if a seed is there twice.

    Those of one seed differ in what a run does not know of, such as a version of minet or the machine, or in
    nothing: as one row they would count as a spread over seeds.
    """
    places: list[Callable[[Run], dict[str, str]]] = [
        lambda run: {},
        lambda run: {"from folder": str(run.folder.parent)},
        lambda run: {"from folder": str(run.folder)},
    ]
    groups = list[tuple[dict[str, str], list[Run]]]()
    for place in places:
        names = [place(run) for run in runs]
        groups = [
            (name, [run for run, its in zip(runs, names, strict=True) if its == name])
            for i, name in enumerate(names)
            if name not in names[:i]
        ]
        if not any(_repeats(those) for _, those in groups):
            break
    return groups


def _repeats(runs: Sequence[Run]) -> bool:
    seeds = [run.facts["seed"] for run in runs if "seed" in run.facts]
    return len(set(seeds)) < len(seeds)


def kind_of(run: Run) -> dict[str, str]:
    """What a run is of but for its seed: its model, that file's text, all settings, the number of epochs."""
    version = _checksum(map(str, [run.facts.get("text", ""), *run.facts.get("beside", {}).values()]))
    return {"model": run.model, "model file": version, **run.values, "epochs": str(run.epochs or run.epoch)}


def _checksum(texts: Iterable[str]) -> str:
    """A checksum of a model file and those beside it, whatever their comments and layout."""
    number = 0
    for text in texts:
        with contextlib.suppress(SyntaxError, ValueError):
            text = ast.dump(ast.parse(text))
        number = zlib.crc32(text.encode(errors="backslashreplace"), number)
    return f"{number:08x}"


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table."""
    key, names = judged(rows), list(rows[0].labels) if rows else []
    headings = [*names, "runs", title(key), "time", "parameters"]
    made = []
    for row in rows:
        count = len(row.runs) + len(row.failed)
        count_text = str(count) if not row.failed else f"{len(row.runs)} of {count}"
        parameters = "-" if row.parameters is None else f"{row.parameters:,}"
        time = seconds_text(row.seconds) if row.runs else "-"
        made.append([*row.labels.values(), count_text, spread_text(key, row), time, parameters])
    return headings, made


def spread_text(key: str, row: Row) -> str:
    """``98.51 ± 0.12 %``, or the loss likewise."""
    mean, spread = row.mean(key), row.spread(key)
    if math.isnan(mean):
        return "-"
    if key.endswith("accuracy"):
        return f"{100 * mean:.2f}{'' if math.isnan(spread) else f' ± {100 * spread:.2f}'} %"
    return f"{loss_text(mean)}{'' if math.isnan(spread) else f' ± {loss_text(spread)}'}"


def text(rows: Sequence[Row]) -> str:
    """The table, numbers to the right."""
    headings, made = cells(rows)
    widths = [max(map(len, column)) for column in zip(headings, *made, strict=True)]
    labels = len(rows[0].labels) if rows else 0
    lines = [
        "  ".join(
            cell.ljust(width) if i < labels else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [headings, *made]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def table_csv(rows: Sequence[Row]) -> bytes:
    """A line for each row, with all digits."""
    key, lines = judged(rows), list[dict[str, Any]]()
    for row in rows:
        numbers = {
            f"{key}_mean": row.mean(key),
            f"{key}_spread": row.spread(key),
            "seconds_mean": row.seconds,
        }
        line = {"runs": len(row.runs), "failed": len(row.failed)} | numbers
        lines.append({"epochs": row.epochs, **row.labels, **line, "parameters": row.parameters})
    return _csv(lines)


def runs_csv(rows: Sequence[Row]) -> bytes:
    """A line for each run, with the numbers of its last epoch, or why it failed."""
    lines = list[dict[str, Any]]()
    for row in rows:
        for run in row.runs:
            last = {
                name: number
                for name, number in run.records[-1].items()
                if name not in ("epoch", "seconds", *row.labels)
            }
            line = {"seed": run.facts.get("seed"), **last, "seconds": run.seconds, "folder": str(run.folder)}
            lines.append({"epochs": run.epoch, **row.labels, **line, "error": None})
        for name, why in row.failed:
            failed = {"seed": name.rpartition("seed=")[2], "error": " ".join(why.split())}
            lines.append({"epochs": None, **row.labels, **failed})
    return _csv(lines)


def _csv(lines: Sequence[dict[str, Any]]) -> bytes:
    """Lines with a value for each of some names; what is missing or not a number is left empty."""
    names, file = list(dict.fromkeys(name for line in lines for name in line)), io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        values = (line.get(name) for name in names)
        writer.writerow("" if value is None or value != value else value for value in values)
    return file.getvalue().encode()
