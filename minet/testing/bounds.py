"""`minet check --bounds`: Numba loops with every index checked, in a process of its own.

Numba's own bounds checks say that an index is out of bounds, but neither which nor where. Here they say so.
"""

from __future__ import annotations

import ast
import os
import tempfile
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.naming import relative
from minet.testing import process

FOUND = "is out of bounds for"
TRIED = "0.68"  # a release of Numba


class OutOfBounds(IndexError):
    """An index outside its axis, in compiled code: file, line, index, axis (-1 if the only one), size."""

    def __init__(self, file: str, line: int, index: int, axis: int, size: int) -> None:
        super().__init__(file, line, index, axis, size)
        of = f"axis {axis} of size {size}" if axis >= 0 else f"size {size}"
        self.found = f"index {index} {FOUND} {of}"
        self.place = f"{relative(file)}:{line}"
        try:
            text = Path(file).read_text()
            self.code, kernel = text.splitlines()[line - 1].strip(), _function(text, line)
            self.place += f", {kernel}"
        except (OSError, IndexError, SyntaxError):
            self.code = "a loop"

    def __str__(self) -> str:
        return f"{self.found} at {self.place}"


def again(file: str, backend: str, options: list[str], why: str = "") -> tuple[int, str, str]:
    """Run ``minet check FILE`` with bounds checks; return its exit status, output and error output.

    Parameters
    ----------
    file, backend, options
        As for `minet check`.
    why : str
        How the process ended that ran it without, as "died with SIGSEGV".

    Raises
    ------
    MinetError
        If the backend has no Numba loops, or the process dies with bounds checks too, or without reason.
    """
    if not of(backend):
        raise MinetError(f"--bounds is for loops on the cpu, got {backend}", "the emulator checks by itself")
    # Machine code of its own: without bounds checks, it must not be used here, nor this elsewhere.
    with tempfile.TemporaryDirectory(prefix="minet-bounds-") as cache:
        done = process.again(file, options, NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=cache)
    if died := process.died(done.returncode):
        raise MinetError(f"{file}: the check {died}, with each index checked too", HINT)
    if why and done.returncode == 0:
        raise MinetError(f"{file}: the check {why}, although every index is within bounds", HINT)
    return done.returncode, done.stdout, done.stderr


HINT = "python -X faulthandler -m minet check FILE shows the line that ran last"


def of(backend: str) -> bool:
    """Whether a backend computes with Numba loops."""
    return backend in ("cpu", "auto")


def may_tell(backend: str, report: str) -> bool:
    """Whether an index may be the cause of what a report says: not if CUDA kernels alone fail."""
    return of(backend) and any("FAIL  " in line and "parity_" not in line for line in report.splitlines())


def checking() -> bool:
    """Whether this process compiles loops with bounds checks."""
    return os.environ.get("NUMBA_BOUNDSCHECK") == "1"


def name_places() -> None:
    """Make Numba's bounds checks raise OutOfBounds, which names file, line, index and size.

    Raises
    ------
    MinetError
        If this Numba has no such functions: what is replaced here is not part of its interface.
    """
    import numba

    try:
        from numba.core import cgutils, lowering, types

        lower_inst, _ = lowering.Lower.lower_inst, cgutils.do_boundscheck
    except (ImportError, AttributeError) as error:
        found = f"--bounds cannot name places with Numba {numba.__version__}: {error}"
        raise MinetError(found, f"pip install 'numba~={TRIED}.0'  # with which it has been tried") from error
    lines: list[Any] = []  # of the statements that are being compiled, innermost last

    def watched(self: Any, statement: Any) -> Any:
        lines.append(self.loc)
        try:
            return lower_inst(self, statement)
        finally:
            lines.pop()

    def check(context: Any, builder: Any, index: Any, size: Any, axis: int | None = None) -> None:
        below = builder.icmp_signed("<", index, index.type(0))
        beyond = builder.icmp_signed(">=", index, size)
        with cgutils.if_unlikely(builder, builder.or_(below, beyond)):
            at = lines[-1]
            args = (str(at.filename), int(at.line), index, -1 if axis is None else axis, size)
            kinds = (types.intp, types.intp)  # of those known only when it runs
            context.call_conv.return_dynamic_user_exc(builder, OutOfBounds, args, kinds)

    for place, name, function in (
        (lowering.Lower, "lower_inst", watched),
        (cgutils, "do_boundscheck", check),
    ):
        setattr(place, name, function)


def cause(error: BaseException | None) -> OutOfBounds | None:
    """The index out of bounds that an error comes from; a parallel loop's is behind a SystemError."""
    while error is not None and not isinstance(error, OutOfBounds):
        error = error.__cause__ or error.__context__
    return error


def _function(text: str, line: int) -> str:
    """The name of the innermost function that contains a line."""
    around = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(around, key=lambda node: node.lineno).name if around else "module"
