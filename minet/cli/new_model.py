"""`minet new-model`: a model file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli import new_files
from minet.cli.options import Debug, reporting
from minet.core.files import shipped


def new_model(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The model's name, as my-model, my_model or MyModel.")
    ],
    folder: Annotated[Path, typer.Option("--dir", help="The folder to write to.")] = Path(),
    debug: Debug = False,
) -> None:
    """Write a model file to start from: a small net that learns handwritten digits in seconds.

    Nothing is overwritten.
    """
    with reporting(debug):
        known = [path.stem for path in shipped("models").glob("*.py")]
        stem = new_files.new_stem(name, "model", known)
        written = new_files.write_new(folder, {f"{stem}.py": new_files.template("my_model.py")})
        commands = [("minet", phase, *written) for phase in ("summary", "train", "eval")]
        typer.echo(new_files.report(written, commands))
