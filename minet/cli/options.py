"""What commands share: their options, how settings are read, and how errors are reported."""

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
    str, typer.Argument(metavar="FILE_OR_NAME", help="A model file, or a model's name: digits.")
]
BackendName = Annotated[str, typer.Option("--backend", metavar="auto|cpu|cuda|emu", help="What computes.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse layers that have no kernel on the backend.")]
Sync = Annotated[bool, typer.Option("--sync", help="Wait for each kernel, to know which one fails.")]
Batch = Annotated[int | None, typer.Option(help="Images in a step.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE ...", help="Values of the model's settings."),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME=VALUE", help="More such values, after --set.", callback=lambda words: pairs(words)
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the data files; otherwise $MINET_DATA or a cache.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show errors with a traceback.")]


@contextlib.contextmanager
def reporting(debug: bool) -> Iterator[None]:
    """Report an error in one message, with exit status 2; an interruption with 130; a warning in one line."""
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
        typer.echo(f"error: out of memory: {error}\n  hint: a smaller --batch needs less", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None


def warned(message: Warning | str, *_: Any) -> None:
    """A warning on one line."""
    typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


def computing(name: str, strict: bool, sync: bool) -> Any:
    """The backend, by its name as long as it has no options."""
    from minet import backends

    return backends.get(name, strict=strict, sync=sync) if strict or sync else name


def pairs(words: list[str] | None) -> list[str] | None:
    """Refuse words after the model that are not NAME=VALUE."""
    for word in words or []:
        if "=" not in word:
            raise typer.BadParameter(f"{word!r} is not NAME=VALUE")
    return words


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
