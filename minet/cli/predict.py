"""`minet predict`: what a trained net says of image files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from minet.cli.options import BackendName, DataDir, Debug, ModelOfRun, printable, reporting, use_data
from minet.core.errors import MinetError

LONG = 1 << 16  # characters: lines that go to a file or a program are not wrapped


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run folder, its name in runs/, a file of weights, or a model, for its newest run.",
        ),
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG and .npy files, and folders of them.")
    ],
    top: Annotated[int, typer.Option(metavar="K", help="How many of the likeliest classes to show.")] = 2,
    resize: Annotated[
        bool, typer.Option("--resize", help="Scale images to cover the net's input, and cut off the rest.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each image.")] = False,
    backend: BackendName = "auto",
    model: ModelOfRun = None,
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Show which classes a trained net sees in images, and how sure it is, or its outputs if it has none.

    Images are converted to the net's channels and normalised as in training. All files are read before
    anything is computed: if some cannot be, they are named, and nothing else is printed.
    """
    with reporting(debug):
        from rich.console import Console

        from minet.runs.predict import Predictor

        use_data(data_dir)
        if top < 1:
            raise MinetError(f"--top must be at least 1, got {top}")
        predictor = Predictor(run, images, model=model, resize=resize, backend=backend)
        if predictor.note:
            typer.echo(f"note: {predictor.note}", err=True)
        found = predictor.predictions(top, Console(stderr=True))
        if as_json:
            for one in found:
                typer.echo(json.dumps(one))
        else:
            _show(found)


def _show(predictions: Iterator[dict[str, Any]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for one in predictions:
        cells = _cells(one)
        if not table.columns:
            for heading in cells:
                table.add_column(
                    heading, overflow="fold", justify="right" if heading == "probability" else "left"
                )
        # File names may look like markup, or hold what a terminal obeys.
        table.add_row(*(Text(printable(cell)) for cell in cells.values()))
    console = Console()
    if not console.is_terminal:
        console = Console(width=LONG)
    console.print(table)


def _cells(one: dict[str, Any]) -> dict[str, str]:
    """A row of the table, by its headings."""
    cells = {"file": one["file"]}
    if "class" in one:
        others = ", ".join(f"{other['class']} {_percent(other['probability'])}" for other in one["top"][1:])
        cells |= {"class": one["class"], "probability": _percent(one["probability"])}
        return cells | ({"next best": others} if others else {})
    if "probabilities" in one:
        return cells | {"probabilities": ", ".join(map(_percent, one["probabilities"]))}
    return cells | {"outputs": ", ".join(f"{number:.6g}" for number in one["outputs"])}


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
