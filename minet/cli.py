"""The command line: train, eval, check and so on. What a command needs is imported when it runs."""

from __future__ import annotations

import ast
import contextlib
import errno
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from minet.cli_bench import bench
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


def main() -> None:
    """The entry point `minet`. Of standard output that fails it tells in one message, with exit status 2."""
    if sys.stdout is None:
        print("error: standard output is closed", file=sys.stderr)
        sys.exit(2)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        try:
            print(flush=True)
        except OSError:  # it was that, then
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the last flush, when Python ends
        else:
            raise
        if error.errno == errno.EPIPE:  # who read it has gone
            sys.exit(1)
        print(f"error: standard output cannot be written to: {error.strerror}", file=sys.stderr)
        sys.exit(2)


def version(wanted: bool) -> None:
    """Print the version, and end."""
    if wanted:
        import minet

        typer.echo(f"minet {minet.__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train nets of layers, and check layers of your own."""


@app.command()
def train(
    model: FileOrName,
    backend: BackendName = "auto",
    words: Words = None,
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
    strict: Strict = False,
    sync: Sync = False,
    debug: Debug = False,
) -> None:
    """Train a model; log, weights and pictures go to runs/MODEL.

    Ctrl-C stops it; --resume goes on after the last whole epoch.
    """
    with told(debug):
        from minet import runs

        use_data(data_dir)
        chosen = parsed([*(settings or []), *(words or [])], batch=batch, epochs=epochs)
        device = computing(backend, strict, sync)
        runs.train(model, chosen, backend=device, seed=seed, out=out, resume=resume)


@app.command("eval")
def evaluate(
    model: FileOrName,
    words: Words = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint or run; by default the model's newest run.")
    ] = None,
    backend: BackendName = "auto",
    batch: Batch = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    strict: Strict = False,
    sync: Sync = False,
    debug: Debug = False,
) -> None:
    """Test trained weights on the model's test set."""
    with told(debug):
        from minet import runs

        use_data(data_dir)
        chosen = parsed([*(settings or []), *(words or [])], batch=batch)
        device = computing(backend, strict, sync)
        typer.echo(runs.evaluate(model, chosen, weights=weights, backend=device))


@app.command()
def summary(
    model: FileOrName,
    words: Words = None,
    batch: Batch = None,
    settings: Settings = None,
    backend: BackendName = "cpu",
    debug: Debug = False,
) -> None:
    """Show a model's layers, shapes and settings, and for cuda and emu which layers have no kernel."""
    with told(debug):
        from minet import modelfile
        from minet.net import Net

        loaded = modelfile.load(model, **parsed([*(settings or []), *(words or [])], batch=batch))
        typer.echo(Net(loaded.net(), loaded.input_shape, loaded.batch, loaded.loss, backend).summary())
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
    strict: Strict = False,
    sync: Sync = False,
    sanitize: Annotated[
        bool, typer.Option("--sanitize", help="With --backend emu: under AddressSanitizer and UBSan.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Hold layers to the layer contract, on their examples().

    Exit status: 0 if every check passes, 1 if one fails, 2 if there is nothing to check, or a sanitizer found
    something.
    """
    with told(debug):
        from minet import backends, layerfile
        from minet.testing import check_layer

        if sanitize:
            from minet import sanitize as sanitizers

            raise typer.Exit(sanitizers.again(file, backend, strict, debug))
        device = computing(backend, strict, sync)
        name = backends.get(device).name
        counts = {}
        for cls, examples in [(cls, layerfile.examples_of(cls)) for cls in layerfile.classes(file)]:
            counts[cls.__name__] = Counter[str]()
            for make, in_shape in examples:
                report = check_layer(make, in_shape, backend=name if device == backend else device)
                typer.echo(f"{report}\n")
                counts[cls.__name__] += report.counts
        for name, count in counts.items():
            typer.echo(f"{name}: {count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped")
    raise typer.Exit(1 if any(count["FAIL"] for count in counts.values()) else 0)


@app.command()
def doctor(
    backend: Annotated[
        str, typer.Option("--backend", metavar="cpu|cuda|emu", help="The backend that has to work.")
    ] = "cpu",
    debug: Debug = False,
) -> None:
    """Show what of this machine works, and the command that mends what does not.

    Exit status: 0 if the backend works, 2 if not. A GPU that is not there is no error, unless asked for.
    """
    with told(debug):
        from minet import doctor

        found = doctor.look()
        whys = doctor.verdicts(found)
        if backend not in whys:
            raise MinetError(f"there is no backend {backend!r}", f"the backends are: {', '.join(whys)}")
        typer.echo(doctor.report(found, whys))
    raise typer.Exit(2 if whys[backend] else 0)


app.command()(bench)


@contextlib.contextmanager
def told(debug: bool) -> Iterator[None]:
    """Tell an error in one message, with exit status 2, an interruption with 130; a warning in one line."""
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
