"""`minet bench`: time layers and models against other libraries, and layers of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from minet.cli.options import Debug, reporting
from minet.core.errors import MinetError


def bench(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD|FILE[:CLASS]",
            help="Time the cases whose names contain a WORD, by default all; or the layers of a FILE.",
        ),
    ] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="cpu|cuda", help="Backend to time.")] = "cpu",
    rounds: Annotated[int, typer.Option(help="How often each contender is timed.")] = 5,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Rivals: torch, dcls, scipy, numpy or none; by default all installed ones.",
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="C,H,W,N", help="Of a FILE's images; by default 64,32,32,32.")
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

    The layers of a FILE are timed with the settings of their examples, if they pass their check. Their rivals
    are fprop_numpy and bprop_numpy, if they keep them, and in_torch(x, **parameters), if they have it: the
    same in PyTorch, on images (N, C, H, W).
    """
    with reporting(debug):
        from minet.bench import run

        files = [word for word in words or () if re.search(r"\.py(:|$)", word)]
        if shape and not files:
            raise MinetError("--shape is for the layers of a FILE: minet's own cases have theirs")
        run.able(backend)
        own = [case for file in files for case in _own(file, backend, _sizes(shape or "64,32,32,32"))]
        run.bench(
            [word for word in words or () if word not in files], own, backend=backend, rounds=rounds,
            against=against.split(",") if against else None,
            everything=everything, json_file=json_file, plot_file=plot_file, say=typer.echo,
        )  # fmt: skip


def _sizes(text: str) -> Any:
    """C, H, W and N as typed."""
    try:
        C, H, W, N = sizes = tuple(map(int, text.split(",")))
        if min(sizes) < 1:
            raise ValueError
    except ValueError:
        raise MinetError(f"--shape {text}: is not four whole numbers", "--shape 64,32,32,128") from None
    return C, H, W, N


def _own(file: str, backend: str, shape: Any) -> Iterator[Any]:
    """Yield the cases of a file's layers, or of the one named, once they have passed their check."""
    from minet.bench import cases
    from minet.core.layer import Layer
    from minet.testing import layerfile, process

    layers = [cls for cls in layerfile.classes(file) if issubclass(cls, Layer)]
    if not layers:
        raise MinetError(f"{file}: has no layer to time")
    done = process.again(file, ["--backend", backend, "--quiet"])
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or [process.died(done.returncode)]
        why = next((line for line in lines if line.startswith("FAIL")), lines[-1])
        raise MinetError(f"{file} is not timed, as its check fails: {why}", f"minet check {file}")
    for cls in layers:
        yield from cases.own(Path(re.sub(r":\w+$", "", file)), cls, shape)
