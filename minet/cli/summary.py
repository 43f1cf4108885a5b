"""`minet summary`: a model's layers, shapes and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli.options import BackendName, Batch, Debug, FileOrName, Settings, Words, parsed, reporting


def summary(
    model: FileOrName,
    words: Words = None,
    batch: Batch = None,
    settings: Settings = None,
    backend: BackendName = "cpu",
    graph: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the net, with its branches, to a file.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Show a model's layers, shapes and settings.

    With --backend cuda or emu, layers without a kernel are marked.
    """
    with reporting(debug):
        from minet.core import drawing
        from minet.core.errors import MinetError
        from minet.core.files import write_whole
        from minet.core.net import Net
        from minet.train import modelfile

        loaded = modelfile.load(model, **parsed([*(settings or []), *(words or [])], batch=batch))
        if graph is not None and graph.suffix != ".svg":
            raise MinetError(f"--graph draws SVG, got {graph}", f"--graph {graph.with_suffix('.svg')}")
        net = Net(loaded.net(), loaded.input_shape, loaded.batch, loaded.loss, backend)
        if graph is not None:
            write_whole(graph, drawing.net(net.graph, net.shapes).encode())
        typer.echo(net.summary())
        known = {**loaded.known, **loaded.settings}
        typer.echo("settings: " + " ".join(f"{name}={value}" for name, value in known.items()))
