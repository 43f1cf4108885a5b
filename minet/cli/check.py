"""`minet check`: check layers against the layer contract, and losses against theirs."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from minet.cli.options import BackendName, Debug, Strict, Sync, computing, reporting
from minet.core.errors import MinetError


def check(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:CLASS]",
            help="A file with layers and losses, or one of minet's own, e.g. gaussian_pool.",
        ),
    ],
    backend: BackendName = "cpu",
    strict: Strict = False,
    sync: Sync = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every check, even if one fails.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line for each example.")] = False,
    bounds: Annotated[
        bool,
        typer.Option("--bounds", help="Check every index of Numba loops; slow, as all is compiled again."),
    ] = False,
    sanitize: Annotated[
        bool, typer.Option("--sanitize", help="With --backend emu: run under AddressSanitizer and UBSan.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Check layers against the layer contract, and losses against theirs, using their examples().

    A file with Numba loops is checked in a process of its own. If that fails or dies, it runs again with
    --bounds: an index out of bounds is the first cause.

    Exit status: 0 if every check passes, 1 if one fails, 2 if there is nothing to check or a sanitizer finds
    something.
    """
    with reporting(debug):
        if verbose and quiet:
            raise MinetError("--verbose and --quiet exclude each other")
        from minet.testing import process

        chosen = {"--verbose": verbose, "--quiet": quiet, "--debug": debug}
        options = [name for name, on in chosen.items() if on]
        if sanitize:
            from minet.testing import sanitize as sanitizers

            raise typer.Exit(sanitizers.again(file, backend, options, strict, debug))
        if bounds or process.needed(file):
            more = [name for name, on in {"--strict": strict, "--sync": sync}.items() if on]
            raise typer.Exit(_elsewhere(file, backend, [*options, *more], bounds))
        counts = _checked(file, backend, strict, sync, verbose, quiet)
        for name, count in counts.items():
            typer.echo(f"{name}: {count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped")
    raise typer.Exit(1 if any(count["FAIL"] for count in counts.values()) else 0)


def _checked(
    file: str, backend: str, strict: bool, sync: bool, verbose: bool, quiet: bool
) -> dict[str, Counter[str]]:
    """Check all examples and print their reports; return the outcomes of each class."""
    from minet import backends
    from minet.testing import bounds, layerfile

    if bounds.checking():
        bounds.name_places()
    device = computing(backend, strict, sync)
    name = backends.get(device).name
    counts, warned = {}, set[str]()
    for cls, examples in [(cls, layerfile.examples_of(cls)) for cls in layerfile.classes(file)]:
        counts[cls.__name__] = Counter[str]()
        for example in examples:
            report = layerfile.check_example(cls, example, name if device == backend else device)
            report.warnings = [text for text in report.warnings if text not in warned]
            warned.update(report.warnings)
            typer.echo(report.line() if quiet else f"{report.full() if verbose else report}\n")
            counts[cls.__name__] += report.counts
    return counts


def _elsewhere(file: str, backend: str, options: list[str], bounded: bool) -> int:
    """Check in a process of its own, again with bounds checks if that fails; return the exit status."""
    from minet.testing import bounds, process

    options, died, plain = ["--backend", backend, *options], "", None
    if not bounded:
        done = process.again(file, options)
        died, result = process.died(done.returncode), (done.returncode, done.stdout, done.stderr)
        if not died and not bounds.may_tell(backend, done.stdout):
            return _shown(*result)
        what, plain = (f"the check died with {died}", None) if died else ("a check fails", result)
        typer.echo(f"{what}: it runs again, with every index of its Numba loops checked", err=True)
    checked = bounds.again(file, backend, options, died)
    return _shown(*(plain if plain and bounds.FOUND not in checked[1] else checked))


def _shown(status: int, out: str, err: str) -> int:
    typer.echo(out, nl=False)
    typer.echo(err, nl=False, err=True)
    return status
