"""Whether a kernel's results depend on what its local variables happen to begin with."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from minet.core.errors import MinetError
from minet.emulator import module
from minet.emulator.launch import Run
from minet.emulator.source import Code


def check(name: str, code: Code, options: tuple[str, ...], ran: Callable[[str], Run]) -> None:
    """Run a kernel twice, with local variables that begin with zeros and with a pattern; compare.

    Parameters
    ----------
    name, code, options
        The kernel's.
    ran : callable
        Runs it as compiled for a kind of checks.

    Raises
    ------
    MinetError
        If the results differ: with the lines at which the compiler sees a variable read before it is written.
    """
    __tracebackhide__ = True
    zeros, pattern = ran("zero"), ran("pattern")
    for number, (one, other) in enumerate(zip(zeros.results(), pattern.results(), strict=True)):
        if one == other:
            continue
        at = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        seen = "".join(f"\n  {line}" for line in _seen(name, code, options))
        found = f"{name} on the emulator: a result depends on an uninitialised variable"
        hint = "give the kernel's local variables a value where they are declared"
        raise MinetError(f"{found}\n  {pattern.written(number, at)}{seen}", hint)


def _seen(name: str, code: Code, options: tuple[str, ...]) -> list[str]:
    """What the compiler says of variables that are read before they are written."""
    text = code.compiled(False) + module.entry(code, name, False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ii")
        path.write_text(text)
        standard = [option for option in options if option.startswith("-std")]
        command = ["g++", *standard, *module.ANY, "-O2", "-Wuninitialized", "-Wmaybe-uninitialized"]
        done = subprocess.run(
            [*command, "-c", "-o", "/dev/null", str(path)], capture_output=True, text=True, check=False
        )
    found = re.findall(r"^(.+:\d+):\d+: warning: (.*?)(?: \[-W.*)?$", done.stderr, re.MULTILINE)
    return list(dict.fromkeys(f"{place}: {what}" for place, what in found if "uninitialized" in what))
