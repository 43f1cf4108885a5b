"""The `minet` command; each of its commands imports what it needs when it runs."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from typing import Annotated

import typer

from minet.cli.bench import bench
from minet.cli.check import check
from minet.cli.compare import compare
from minet.cli.doctor import doctor
from minet.cli.emu import emu
from minet.cli.evaluate import evaluate
from minet.cli.export import export
from minet.cli.import_ import import_
from minet.cli.new_layer import new_layer
from minet.cli.new_model import new_model
from minet.cli.predict import predict
from minet.cli.report import report
from minet.cli.runs import runs
from minet.cli.summary import summary
from minet.cli.train import train
from minet.cli.view import view
from minet.train.interrupts import ENDS
from minet.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The entry point `minet`; a failing standard output is reported in one message, with exit status 2.

    SIGTERM, and SIGHUP from a terminal that closes, end a command as Ctrl-C does. Under `nohup` SIGHUP stays
    ignored.
    """
    if sys.stdout is None:
        print("error: standard output is closed", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for letters that the output cannot encode
    for number in ENDS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        os.getcwd()
    except OSError as error:
        print(f"error: the working folder is gone: {error.strerror}\n  hint: cd to another", file=sys.stderr)
        sys.exit(2)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        try:
            print(flush=True)
        except OSError:  # so it was standard output that failed
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the last flush, when Python exits
        else:
            raise
        if error.errno == errno.EPIPE:  # the reader is gone
            sys.exit(1)
        print(f"error: standard output cannot be written to: {error.strerror}", file=sys.stderr)
        sys.exit(2)


def version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(f"minet {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train neural networks, and check layers of your own."""


for command in (
    train, compare, runs, report, predict, export, summary, view, check, doctor, emu, bench, new_layer,
    new_model,
):  # fmt: skip
    app.command()(command)
app.command("eval")(evaluate)
app.command("import")(import_)
