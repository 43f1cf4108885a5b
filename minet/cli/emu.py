"""`minet emu`: the kernels of a CUDA file, and which of them the emulator can run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli.options import Debug, reporting


def emu(
    file: Annotated[str, typer.Argument(metavar="FILE.cu[::KERNEL]", help="A CUDA file, or a kernel of it.")],
    define: Annotated[
        list[str] | None, typer.Option("-D", metavar="NAME=VALUE", help="Define a macro.")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option("-I", metavar="DIR", help="Look there for headers.")
    ] = None,
    standard: Annotated[str, typer.Option("--std", metavar="c++17", help="The version of C++.")] = "c++17",
    debug: Debug = False,
) -> None:
    """List a CUDA file's kernels, their parameters, and whether they can run without a card."""
    with reporting(debug):
        from minet.backends import emulator
        from minet.core.errors import MinetError
        from minet.emulator.overview import entries

        if why := emulator.missing():
            raise MinetError(why, "apt install g++, or your system's package of it")
        path, _, name = file.partition("::")
        options = [f"-D{one}" for one in define or []] + [f"-I{one}" for one in include or []]
        found, missing = entries(Path(path), name, (*options, f"-std={standard}"))
        for entry in found:
            typer.echo(f"{entry.line}: {entry.signature or entry.name}")
            if entry.example and not entry.why_not:
                typer.echo(f'  a template: name one of it, "{path}::{entry.example}"')
            elif entry.why_not:
                typer.echo(f"  cannot run here: {entry.why_not}")
            else:
                typer.echo(f"  runs here{f'; shared memory: {entry.shared} bytes' if entry.shared else ''}")
            for stop in entry.stops:
                typer.echo(f"  but stops if it comes to {stop}")
        if not found:
            typer.echo(f"{path} has no kernels")
        if missing:
            typer.echo(f"headers that were not found, and taken as empty: {', '.join(missing)}")
        if name and found[0].why_not:
            raise typer.Exit(1)
