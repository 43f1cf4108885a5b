"""`minet summary`: a model's layers, shapes and settings."""

from __future__ import annotations

import typer

from minet.cli.options import BackendName, Batch, Debug, FileOrName, Settings, Words, parsed, reporting


def summary(
    model: FileOrName,
    words: Words = None,
    batch: Batch = None,
    settings: Settings = None,
    backend: BackendName = "cpu",
    debug: Debug = False,
) -> None:
    """Show a model's layers, shapes and settings.

    With --backend cuda or emu, layers without a kernel are marked.
    """
    with reporting(debug):
        from minet.core.net import Net
        from minet.train import modelfile

        loaded = modelfile.load(model, **parsed([*(settings or []), *(words or [])], batch=batch))
        typer.echo(Net(loaded.net(), loaded.input_shape, loaded.batch, loaded.loss, backend).summary())
        known = {**loaded.known, **loaded.settings}
        typer.echo("settings: " + " ".join(f"{name}={value}" for name, value in known.items()))
