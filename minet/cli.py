"""The command line: train, eval, summary, check. What a command needs is imported when it runs."""

from __future__ import annotations

import ast
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from minet.errors import MinetError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FileOrName = Annotated[
    str, typer.Argument(metavar="FILE_OR_NAME", help="A model file, or a model's name: digits.")
]
BackendName = Annotated[str, typer.Option("--backend", metavar="auto|cpu", help="What computes.")]
Batch = Annotated[int | None, typer.Option(help="Images in a step.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One of the model's settings; may be repeated."),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the data files; otherwise $MINET_DATA or a cache.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show errors with a traceback.")]


def main() -> None:
    """The entry point `minet`."""
    app()


@app.callback()
def about() -> None:
    """Train nets of layers, and check layers of your own."""


@app.command()
def train(
    model: FileOrName,
    backend: BackendName = "auto",
    epochs: Annotated[int | None, typer.Option(help="Epochs in all.")] = None,
    batch: Batch = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides weights, order and draws; 0 if not given.")
    ] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default the next free runs/MODEL.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, or the model's newest.")
    ] = False,
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Train a model; log, weights and pictures go to runs/MODEL.

    Ctrl-C stops it; --resume goes on after the last whole epoch.
    """
    with told(debug):
        from minet import runs

        use_data(data_dir)
        chosen = parsed(settings, batch=batch, epochs=epochs)
        runs.train(model, chosen, backend=backend, seed=seed, out=out, resume=resume)


@app.command("eval")
def evaluate(
    model: FileOrName,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint; by default that of the model's newest run.")
    ] = None,
    backend: BackendName = "auto",
    batch: Batch = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Test trained weights on the model's test set."""
    with told(debug):
        from minet import checkpoint, modelfile, runs
        from minet.callbacks import WEIGHTS, percent
        from minet.net import Net
        from minet.trainer import check_data
        from minet.trainer import evaluate as test

        use_data(data_dir)
        file = weights or runs.latest(modelfile.find(model).stem) / WEIGHTS
        trained_with = checkpoint.read(file)[1].get("settings", {})
        loaded = modelfile.load(model, **{**trained_with, **parsed(settings, batch=batch)})
        net = Net(loaded.net(), loaded.input_shape, loaded.batch, loaded.loss, backend)
        checkpoint.load(file, net)
        _, data = loaded.datasets()
        check_data(data, net)
        begin = time.perf_counter()
        loss, accuracy = test(net, data)
        seconds = time.perf_counter() - begin
        right = round(accuracy * len(data))
        typer.echo(f"{percent(accuracy)} of {data.name} right ({right:,} of {len(data):,}), loss {loss:.4f}, "
                   f"{seconds:.1f} s, with {file}")  # fmt: skip


@app.command()
def summary(
    model: FileOrName,
    batch: Batch = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Show a model's layers, shapes and settings."""
    with told(debug):
        from minet import modelfile
        from minet.net import Net

        loaded = modelfile.load(model, **parsed(settings, batch=batch))
        typer.echo(Net(loaded.net(), loaded.input_shape, loaded.batch, loaded.loss).summary())
        known = {**loaded.known, **loaded.settings}
        typer.echo("settings: " + " ".join(f"{name}={value}" for name, value in known.items()))


@app.command()
def check(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:CLASS]", help="A file with layers, or a layer of minet's: gaussian_pool."
        ),
    ],
    backend: BackendName = "cpu",
    debug: Debug = False,
) -> None:
    """Hold layers to the layer contract, on their examples().

    Exit status: 0 if every check passes, 1 if one fails, 2 if there is nothing to check.
    """
    with told(debug):
        from minet import backends, layerfile
        from minet.testing import check_layer

        backends.get(backend)
        ok = True
        for make, in_shape in layerfile.examples(file):
            report = check_layer(make, in_shape, backend=backend)
            typer.echo(f"{report}\n")
            ok &= report.ok
    raise typer.Exit(0 if ok else 1)


@contextlib.contextmanager
def told(debug: bool) -> Iterator[None]:
    """Tell an error in one message, with exit status 2, and an interruption with 130."""
    try:
        yield
    except MinetError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except MemoryError as error:
        if debug:
            raise
        typer.echo(f"error: out of memory: {error}\n  hint: a smaller --batch needs less", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None


def parsed(settings: list[str] | None, **others: Any) -> dict[str, Any]:
    """``["kernels=3"]`` as ``{"kernels": 3}``: values are Python literals, or else strings."""
    chosen = {name: value for name, value in others.items() if value is not None}
    for item in settings or []:
        name, equals, text = item.partition("=")
        if not (name.isidentifier() and equals):
            raise MinetError(f"--set {item}: is not NAME=VALUE", "--set kernels=3")
        try:
            chosen[name] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            chosen[name] = text
    return chosen


def use_data(folder: Path | None) -> None:
    """Let data sets look for their files in this folder."""
    if folder is not None:
        if not folder.is_dir():
            raise MinetError(f"--data-dir {folder}: no such folder")
        os.environ["MINET_DATA"] = str(folder)
