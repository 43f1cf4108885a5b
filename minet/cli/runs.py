"""`minet runs`: the runs in a folder."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minet.cli.options import Debug, printable, reporting
from minet.core.errors import MinetError

if TYPE_CHECKING:
    from minet.runs.listing import Run

LONGEST = 24  # letters of a name that has the line of its run


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to look.")] = Path("runs"),
    debug: Debug = False,
) -> None:
    """List runs, the newest last: state, epochs, what the last epoch was judged by, model and settings.

    A run is finished, running, interrupted (--resume goes on) or broken, which is said below it.
    """
    with reporting(debug):
        from minet.runs.listing import Run, found

        if not folder.is_dir():
            raise MinetError(f"{folder!s:.200}: no such folder", "minet train MODEL makes runs/MODEL")
        listed = [(path.relative_to(folder), Run.of(path)) for path in found(folder)]
        if not listed:
            raise MinetError(f"{folder}: holds no runs", "minet train MODEL makes runs/MODEL")
        rows: list[tuple[str, ...]] = [("run", "state", "epochs", "measured", "model and settings", "")]
        rows += [_row(str(name), run) for name, run in listed]
        typer.echo("\n".join(_lines(rows, shutil.get_terminal_size((80, 24)).columns)))


def _row(name: str, run: Run) -> tuple[str, ...]:
    from minet.runs.listing import told

    epochs = f"{run.epoch}/{run.epochs}" if run.epochs else str(run.epoch)
    given = {name: value for name, value in run.settings.items() if name != "epochs"}
    given |= {"seed": run.facts["seed"]} if run.facts.get("seed") else {}
    model = _plain(f"{run.model or '?'} {told(given)}")
    return _plain(name), run.state, epochs, run.measured_text, model, _plain(run.why)


def _plain(text: str) -> str:
    """Text that comes from a folder, on one line."""
    return printable(" ".join(text.split()))


def _lines(rows: list[tuple[str, ...]], width: int) -> list[str]:
    """A table; the last column is wrapped, and so is what is said below a row."""
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    widths[0] = min(widths[0], LONGEST)
    lines = []
    for name, *cells, last, why in rows:
        # A name that is too long has a line of its own, and the row goes on below it.
        head = [name] if len(name) > widths[0] else []
        columns = ["" if head else name, *cells]
        start = "  ".join(cell.ljust(size) for cell, size in zip(columns, widths, strict=True)) + "  "
        room = max(width - len(start), 18)
        parts = textwrap.wrap(last, room, break_on_hyphens=False) or [""]
        lines += [*head, (start + parts[0]).rstrip()]
        lines += [" " * len(start) + part for part in parts[1:]]
        if why:
            lines += textwrap.wrap(why, max(width, 40), initial_indent="    ", subsequent_indent="    ")
    return lines
