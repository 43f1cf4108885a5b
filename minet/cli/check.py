"""`minet check`: check layers against the layer contract."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from minet.cli.options import BackendName, Debug, Strict, Sync, computing, reporting


def check(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:CLASS]", help="A file with layers, or one of minet's own, e.g. gaussian_pool."
        ),
    ],
    backend: BackendName = "cpu",
    strict: Strict = False,
    sync: Sync = False,
    sanitize: Annotated[
        bool, typer.Option("--sanitize", help="With --backend emu: run under AddressSanitizer and UBSan.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Check layers against the layer contract, using their examples().

    Exit status: 0 if every check passes, 1 if one fails, 2 if there is nothing to check or a sanitizer finds
    something.
    """
    with reporting(debug):
        from minet import backends
        from minet.testing import check_layer, layerfile

        if sanitize:
            from minet.testing import sanitize as sanitizers

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
