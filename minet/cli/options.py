"""What the commands share: options, parsing of settings, and error reporting."""

from __future__ import annotations

import ast
import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from minet.core.errors import MinetError

FileOrName = Annotated[
    str,
    typer.Argument(
        metavar="FILE_OR_NAME", help="A model file, or the name of one of minet's models, e.g. digits."
    ),
]
BackendName = Annotated[str, typer.Option("--backend", metavar="auto|cpu|cuda|emu", help="Backend to use.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse layers that have no kernel on the backend.")]
Sync = Annotated[bool, typer.Option("--sync", help="Wait for each kernel, to see which one fails.")]
Batch = Annotated[int | None, typer.Option(help="Images per step.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE ...", help="Settings of the model, e.g. lr=0.1."),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME=VALUE", help="More settings, as after --set.", callback=lambda words: pairs(words)
    ),
]
RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run folder, its name in runs/, or a model, for its newest run."),
]
ModelOfRun = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="FILE_OR_NAME", help="The run's model file, if it is not where it was in training."
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder with the data files; by default $MINET_DATA or a cache.")
]
TWICE = "give each setting once, by --set or by an option of its name"
Debug = Annotated[bool, typer.Option("--debug", help="Show errors with a traceback.")]


@contextlib.contextmanager
def reporting(debug: bool) -> Iterator[None]:
    """Report errors in one message (exit status 2), interrupts (status 130), and warnings on one line."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warned  # type: ignore[assignment]
            yield
    except MinetError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except MemoryError as error:
        if debug:
            raise
        typer.echo(f"error: out of memory: {error}\n  hint: use a smaller net or --batch", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        if debug or error.filename is None:  # standard output, which main reports
            raise
        typer.echo(f"error: {error.filename!s:.200}: {error.strerror}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt as error:
        from minet.core.blame import interrupted_in

        typer.echo(f"interrupted{interrupted_in(error)}", err=True)
        raise typer.Exit(130) from None


def warned(message: Warning | str, *_: Any) -> None:
    """Print a warning on one line."""
    typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


def computing(name: str, strict: bool, sync: bool) -> Any:
    """The backend if it has options, otherwise just its name."""
    from minet import backends

    return backends.get(name, strict=strict, sync=sync) if strict or sync else name


def pairs(words: list[str] | None) -> list[str] | None:
    """Refuse words after the model that are not NAME=VALUE."""
    for word in words or []:
        if "=" not in word:
            raise typer.BadParameter(f"{word!r} is not NAME=VALUE")
    return words


def parsed(settings: list[str] | None, **others: Any) -> dict[str, Any]:
    """Parse ``["kernels=3"]`` as ``{"kernels": 3}``; values are Python literals, or else strings."""
    chosen = {name: value for name, value in others.items() if value is not None}
    for item in settings or []:
        name, equals, text = item.partition("=")
        if not (name.isidentifier() and equals):
            raise MinetError(f"--set {item}: is not NAME=VALUE", "--set kernels=3")
        if name in chosen:
            raise MinetError(f"the setting {name} is given twice", TWICE)
        try:
            chosen[name] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            chosen[name] = text
    return chosen


def printable(text: str) -> str:
    """Text that comes from files and their names, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def use_model(model: str | None) -> None:
    """Refuse a model file that is named and not there, before a page is written without it."""
    if model is not None:
        from minet.train import modelfile

        if not (path := modelfile.find(model)).is_file():
            raise MinetError(f"--model {path}: no such file")


def use_data(folder: Path | None) -> None:
    """Make data sets look for their files in this folder."""
    if folder is not None:
        if not folder.is_dir():
            raise MinetError(f"--data-dir {folder}: no such folder")
        os.environ["MINET_DATA"] = str(folder)
