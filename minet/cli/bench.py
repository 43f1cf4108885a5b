"""`minet bench`: time layers and models against other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli.options import Debug, reporting


def bench(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Time the cases whose names contain a WORD; by default all."),
    ] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="cpu|cuda", help="Backend to time.")] = "cpu",
    rounds: Annotated[int, typer.Option(help="How often each contender is timed.")] = 5,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Rivals: torch, dcls, scipy or none; by default all installed ones."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Time every shape, window, stride and number of kernels.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Plot the results as a PNG.")] = None,
    debug: Debug = False,
) -> None:
    """Time layers and models against other libraries.

    Each contender runs in its own process, in turns. Results are compared first: a contender that computes
    something else is not timed. The exit status is 0 even if some miss their targets; the last lines list
    those.
    """
    with reporting(debug):
        from minet.bench import run

        run.bench(
            words or (), backend=backend, rounds=rounds, against=against.split(",") if against else None,
            everything=everything, json_file=json_file, plot_file=plot_file, say=typer.echo,
        )  # fmt: skip
