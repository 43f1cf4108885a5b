"""`minet eval`: test trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli.options import (
    BackendName,
    Batch,
    DataDir,
    Debug,
    FileOrName,
    Settings,
    Strict,
    Sync,
    Words,
    computing,
    parsed,
    reporting,
    use_data,
)


def evaluate(
    model: FileOrName,
    words: Words = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint or run folder; by default the model's newest run.")
    ] = None,
    backend: BackendName = "auto",
    batch: Batch = None,
    settings: Settings = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Show each class's accuracy, and what it is taken for.")
    ] = False,
    data_dir: DataDir = None,
    strict: Strict = False,
    sync: Sync = False,
    debug: Debug = False,
) -> None:
    """Test trained weights on the model's test set."""
    with reporting(debug):
        from minet.runs import runs

        use_data(data_dir)
        chosen = parsed([*(settings or []), *(words or [])], batch=batch)
        device = computing(backend, strict, sync)
        typer.echo(runs.evaluate(model, chosen, weights=weights, backend=device, by_class=by_class))
