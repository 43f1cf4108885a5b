"""`minet doctor`: what of this machine works."""

from __future__ import annotations

from typing import Annotated

import typer

from minet.cli.options import Debug, reporting
from minet.core.errors import MinetError


def doctor(
    backend: Annotated[
        str, typer.Option("--backend", metavar="cpu|cuda|emu", help="The backend that has to work.")
    ] = "cpu",
    debug: Debug = False,
) -> None:
    """Show what of this machine works, and the command that mends what does not.

    Exit status: 0 if the backend works, 2 if not. A GPU that is not there is no error, unless asked for.
    """
    with reporting(debug):
        from minet.cli import probes

        found = probes.look()
        whys = probes.verdicts(found)
        if backend not in whys:
            raise MinetError(f"there is no backend {backend!r}", f"the backends are: {', '.join(whys)}")
        typer.echo(probes.report(found, whys))
    raise typer.Exit(2 if whys[backend] else 0)
