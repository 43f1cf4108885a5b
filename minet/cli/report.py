"""`minet report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli.options import BackendName, DataDir, Debug, ModelOfRun, RunName, reporting, use_data, use_model


def report(
    run: RunName,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="The page; by default report.html in the run's folder."),
    ] = None,
    model: ModelOfRun = None,
    backend: BackendName = "auto",
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Show all that is known of a run in one page, also of one that was stopped.

    Its curves, what it takes for what, its worst mistakes, its Gaussian kernels, its graph, its settings, the
    machine, and the command that trains the same again. The page is one HTML file that loads nothing and has
    no scripts.
    """
    with reporting(debug):
        from rich.console import Console

        from minet.report.run import report as write

        use_data(data_dir)
        use_model(model)
        file, notes = write(run, out, model, backend, Console(stderr=True))
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"wrote {file}")
