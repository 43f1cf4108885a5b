"""`minet bench`: time layers and models beside other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli.options import Debug, reporting


def bench(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="Parts of cases' names; all cases without.")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="cpu|cuda", help="What computes.")] = "cpu",
    rounds: Annotated[int, typer.Option(help="How often each contender has its turn.")] = 5,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Rivals: torch, dcls, scipy, none; by default those installed."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every shape, window, stride and number of kernels.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw them as a PNG.")] = None,
    debug: Debug = False,
) -> None:
    """Time layers and models beside other libraries, each in its own process, in turns.

    First their results are compared: who computes something else is not timed. Exit status 0, also with rows
    under their target: the last lines tell them.
    """
    with reporting(debug):
        from minet.bench import run

        run.bench(
            words or (), backend=backend, rounds=rounds, against=against.split(",") if against else None,
            everything=everything, json_file=json_file, plot_file=plot_file, say=typer.echo,
        )  # fmt: skip
