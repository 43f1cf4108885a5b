"""`minet check`: check layers against the layer contract, and losses against theirs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from minet.cli.options import BackendName, Debug, Strict, Sync, computing, reporting
from minet.core.errors import MinetError


def check(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:CLASS]",
            help="A file with layers and losses or torch modules, or a layer of minet's, e.g. gaussian_pool.",
        ),
    ],
    shapes: Annotated[
        str,
        typer.Option("--input", metavar="CxHxW", help="For a torch module without examples(): 3x32x32."),
    ] = "",
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

    Of PyTorch: a torch.nn.Module, an autograd.Function or a custom_op, against what its users rely on.

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
        options = [name for name, on in chosen.items() if on] + ([f"--input={shapes}"] if shapes else [])
        if sanitize:
            from minet.testing import sanitize as sanitizers

            raise typer.Exit(sanitizers.again(file, backend, options, strict, debug))
        options += [name for name, on in {"--strict": strict, "--sync": sync}.items() if on]
        if bounds or process.needed(file):
            raise typer.Exit(_elsewhere(file, backend, options, bounds))
        if process.needed(file, process.NATIVE):
            raise typer.Exit(_natively(file, ["--backend", backend, *options]))
        counts = _checked(file, backend, strict, sync, verbose, quiet, shapes)
        for name, count in counts.items():
            typer.echo(f"{name}: {count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped")
    raise typer.Exit(1 if any(count["FAIL"] for count in counts.values()) else 0)


def _checked(
    file: str, backend: str, strict: bool, sync: bool, verbose: bool, quiet: bool, shapes: str = ""
) -> dict[str, Counter[str]]:
    """Check all examples and print their reports; return the outcomes of each class."""
    from minet import backends
    from minet.testing import bounds, guard_pages, layerfile, process

    if bounds.checking():
        bounds.name_places()
    device = computing(backend, strict, sync)
    be = backends.get(device)
    if process.apart() and not getattr(be, "sanitize", False):  # AddressSanitizer's own guards say more
        guard_pages.put()
    counts, warned = {}, set[str]()
    for cls, examples in [(cls, _examples(cls)) for cls in _classes(file, shapes)]:
        counts[cls.__name__] = Counter[str]()
        for example in examples:
            if isinstance(cls, type):
                report = layerfile.check_example(cls, example, be.name if device == backend else device)
            else:
                report = cls.check(example, "cuda" if be.name == "cuda" else "cpu")
            report.warnings = [text for text in report.warnings if text not in warned]
            warned.update(report.warnings)
            typer.echo(report.line() if quiet else f"{report.full() if verbose else report}\n")
            counts[cls.__name__] += report.counts
    return counts


def _classes(file: str, shapes: str) -> list[Any]:
    """What the file has to check; without PyTorch, say how to get it to a file that needs it."""
    from minet.testing import layerfile

    try:
        return layerfile.classes(file, _torch(file, shapes))
    except MinetError as error:
        if isinstance(error.__cause__, ImportError) and error.__cause__.name == "torch":
            error.hint = "pip install 'minet-layers[torch]'"
        raise


def _examples(cls: Any) -> list[Any]:
    from minet.testing import layerfile

    return layerfile.examples_of(cls) if isinstance(cls, type) else list(cls.examples())


def _torch(file: str, shapes: str) -> Callable[[ModuleType], Any] | None:
    """What finds the torch modules of a file; None if it does not speak of torch, nor has examples()."""
    path = Path(re.sub(r"\.py:.*$", ".py", file))
    try:
        text = path.read_text(errors="replace") if path.suffix == ".py" else ""
        speaks = re.search(r"\btorch\b|^def examples\b", text, re.MULTILINE)
    except OSError:  # which the check itself reports
        speaks = None
    if not speaks:
        if shapes:
            raise MinetError(f"--input is for torch modules, and {file} has none", "give examples()")
        return None
    try:
        from minet.torch.kit import find
    except MinetError:  # PyTorch is not installed; a file that only mentions it does not need it
        return None

    return partial(find.subjects, shapes=find.parsed(shapes) if shapes else ())


def _elsewhere(file: str, backend: str, options: list[str], bounded: bool) -> int:
    """Check in a process of its own, again with bounds checks if that fails; return the exit status."""
    from minet.testing import bounds, process

    options, died, plain = ["--backend", backend, *options], "", None
    if not bounded:
        done = process.again(file, options)
        died, result = process.died(done.returncode), (done.returncode, done.stdout, done.stderr)
        if not died and not bounds.may_tell(backend, done.stdout):
            return _shown(*result)
        what, plain = (f"the check {died}", None) if died else ("a check fails", result)
        typer.echo(f"{what}: it runs again, with every index of its Numba loops checked", err=True)
    checked = bounds.again(file, backend, options, died)
    return _shown(*(plain if plain and bounds.FOUND not in checked[1] else checked))


def _natively(file: str, options: list[str]) -> int:
    """Check in a process of its own what calls code in C; return the exit status."""
    from minet.testing import bounds, process

    done = process.again(file, options)
    if died := process.died(done.returncode):
        typer.echo(done.stdout, nl=False)
        raise MinetError(f"{file}: the check {died}, in code that it calls", bounds.HINT)
    return _shown(done.returncode, done.stdout, done.stderr)


def _shown(status: int, out: str, err: str) -> int:
    typer.echo(out, nl=False)
    typer.echo(err, nl=False, err=True)
    return status
