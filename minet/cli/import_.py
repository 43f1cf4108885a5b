"""`minet import`: a model file and its weights from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli import new_files
from minet.cli.options import Debug, reporting


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The ONNX file.")],
    out: Annotated[
        Path | None, typer.Option(metavar="MODEL.py", help="The model file; by default FILE.py, here.")
    ] = None,
    fold: Annotated[
        bool, typer.Option("--fold", help="Fold batch normalisation into the convolution before it.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option("--input", metavar="CxHxW", help="The input's shape, if the file leaves it open."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a model file, and its weights beside it, from an ONNX file.

    Nothing is overwritten. Whatever minet has no layers for is listed, and nothing is written.
    """
    with reporting(debug):
        from minet.core.errors import MinetError
        from minet.onnx.import_net import import_net

        shape = None
        if size is not None:
            numbers = size.lower().split("x")
            if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) < 10 for n in numbers):
                raise MinetError(f"--input takes channels, height and width, got {size}", "--input 3x224x224")
            shape = tuple(int(number) for number in numbers)
        done = import_net(file, out, shape, fold)
        typer.echo(f"{done.numbers:,} numbers, input {done.input_shape}, output {done.output_shape}")
        commands = [("minet", "summary", done.model)]
        typer.echo(new_files.report([done.model, done.weights], commands))
