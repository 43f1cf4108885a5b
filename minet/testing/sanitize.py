"""`minet check --backend emu --sanitize`: kernels under AddressSanitizer and UBSan, in another process.

Both must be loaded before Python, and end the process when they find something. So the check runs in its own
process, and their report becomes one error that names the kernel and the .cu line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from minet import backends
from minet.backends.emulator_faults import as_written
from minet.core.errors import MinetError
from minet.testing import process

FOUND = 66  # exit status when a sanitizer found something
OPTIONS = f"exitcode={FOUND}:detect_leaks=0:detect_odr_violation=0:print_stacktrace=1:color=never"


def again(file: str, backend: str, options: list[str], strict: bool = False, debug: bool = False) -> int:
    """Run ``minet check FILE --backend emu`` with its kernels under both sanitizers; return its exit status.

    Parameters
    ----------
    file, backend, options, strict
        As for `minet check`.
    debug : bool
        Print the whole report of a sanitizer.

    Raises
    ------
    MinetError
        If a sanitizer finds something, if g++ or a sanitizer is missing, or if the backend is not emu.
    """
    if backend != "emu":
        raise MinetError(f"--sanitize is for --backend emu, got {backend}", "on a GPU, use compute-sanitizer")
    if why := backends.missing("emu"):
        raise MinetError(why)
    options = ["--backend", "emu", *(["--strict"] if strict else []), *options]
    done = process.again(file, options, **environment())
    print(done.stdout, end="")
    if done.returncode == FOUND and not debug:
        raise MinetError(summarized(done.stderr), "--debug shows all of the report")
    print(done.stderr, file=sys.stderr, end="")
    if done.returncode == FOUND:
        print(f"error: {summarized(done.stderr)}", file=sys.stderr)
        return 2
    if died := process.died(done.returncode):
        raise MinetError(f"under the sanitizers, the check {died}", "try it without --sanitize")
    return done.returncode


def environment() -> dict[str, str]:
    """Return the environment in which a new Python loads both sanitizers."""
    preload = [*map(_library, ("libasan.so", "libubsan.so")), *filter(None, [os.environ.get("LD_PRELOAD")])]
    return {
        "LD_PRELOAD": ":".join(preload),
        "MINET_EMULATOR_SANITIZE": "1",
        "ASAN_OPTIONS": OPTIONS,
        "UBSAN_OPTIONS": OPTIONS,
    }


def summarized(report: str) -> str:
    """Summarise a sanitizer's report in two lines: kernel and kind; file and line."""
    frame = r"^ +#\d+ \S+ in ([\w:]+)(?:<.*>)?(?:\(.*\))?(?: (.+\.cuh?:\d+))?.*$"
    frames = re.findall(frame, report, re.MULTILINE)
    kernel = next((name[9:] for name, _ in frames if name.startswith("emu_body_")), "")
    who = f"{kernel} on the emulator" if kernel else "the emulator"
    lines = []
    for name, line in frames:
        if name.startswith(("emu_", "std::", "void")):
            break
        lines += [as_written(line)] if line else []
    if found := re.search(r"^(.+?:\d+):\d+: runtime error: (.*)", report, re.MULTILINE):
        return f"{who}: UBSan: {found[2]}\n  {', called at '.join(lines or [as_written(found[1])])}"
    kind = re.search(r"AddressSanitizer: (\S+)", report)
    size = re.search(r"^(READ|WRITE) of size (\d+)", report, re.MULTILINE)
    access = f", a {size[1].lower()} of {size[2]} bytes" if size else ""
    where = ", called at ".join(lines) or "not in a kernel"
    return f"{who}: AddressSanitizer: {kind[1] if kind else 'found something'}{access}\n  {where}"


def _library(name: str) -> str:
    done = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=False)
    path = done.stdout.strip()
    if not os.path.isabs(path):
        found = f"g++ has no {name}, which --sanitize needs"
        raise MinetError(found, "install a g++ with sanitizers: apt install g++")
    return os.path.realpath(path)
