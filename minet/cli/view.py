"""`minet view`: a run's kernels over the epochs, and what its pooling layers pick, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli.options import DataDir, Debug, ModelOfRun, RunName, reporting, use_data, use_model


def view(
    run: RunName,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="The page; by default view.html in the run's folder."),
    ] = None,
    model: ModelOfRun = None,
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Show what a run has learned: a page with its Gaussian kernels, epoch by epoch, and what pooling picked.

    The kernels move, or stay at the epoch you choose. Below them are a few images of the test set, the maps
    that each MaxPool and StochasticPool saw of them, and the positions that it picked. The page is one HTML
    file that loads nothing and has no scripts.
    """
    with reporting(debug):
        from minet.view.run import view as write

        use_data(data_dir)
        use_model(model)
        file, notes = write(run, out, model)
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"wrote {file}")
