"""`minet doctor`: show what works on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from minet.cli.options import Debug, reporting
from minet.core.errors import MinetError


def doctor(
    backend: Annotated[
        str, typer.Option("--backend", metavar="cpu|cuda|emu", help="The backend that must work.")
    ] = "cpu",
    debug: Debug = False,
) -> None:
    """Show what works on this machine, and how to fix what does not.

    Exit status: 0 if the backend works, 2 if not. A missing GPU is an error only with --backend cuda.
    """
    with reporting(debug):
        from minet.cli import doctor_probes

        found = doctor_probes.look()
        whys = doctor_probes.verdicts(found)
        if backend not in whys:
            raise MinetError(f"there is no backend {backend!r}", f"the backends are: {', '.join(whys)}")
        typer.echo(doctor_probes.report(found, whys))
    raise typer.Exit(2 if whys[backend] else 0)
