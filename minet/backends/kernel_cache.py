"""Compiled kernels on disk: keyed by all that goes into them, written atomically, checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

from minet.core.errors import MinetError
from minet.core.files import cache_folder as folder

Recipe: TypeAlias = tuple[str, tuple[str, ...], str, str, str]  # the arguments of `build`

# What g++ and nvcc say of a window's constants that a layer does not pass.
OF_A_WINDOW = re.compile(r"\W(R|S|SY|SX|PY|PX|DY|DX|TAP_T)\W (was not declared|is undefined)")
NO_WINDOW = "window.cuh needs the layer's window: def constants(self): return self.window.constants()"
OF_A_MACRO = re.compile(r"\W([A-Z][A-Z0-9_]*)\W (was not declared|is undefined)")


class CompileError(MinetError):
    """A kernel that does not compile."""


@cache
def version(compiler: str) -> str:
    """The compiler's version text; empty if it is not installed."""
    if shutil.which(compiler) is None:
        return ""
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def build(compiler: str, options: Sequence[str], text: str, input_suffix: str, suffix: str) -> Path:
    """The file compiled from the text, from the cache if it was built before.

    Parameters
    ----------
    compiler : str
        A command. Its version text is part of the key, as are options and text.
    options : sequence of str
        Without file names: ``-o OUTPUT INPUT`` is appended.
    text : str
        The whole source.
    input_suffix, suffix : str
        Suffixes of the source and of the result, such as ".cu" and ".cubin".

    Raises
    ------
    CompileError
        If the text does not compile: the compiler's message, with the user's file and line.
    """
    path = _path(compiler, options, text, suffix)
    if _whole(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="build-", dir=path.parent))
    except OSError as error:
        why = f"cannot write to the cache of compiled kernels, {path.parent}: {error.strerror}"
        raise MinetError(why, "set MINET_CACHE to a writable folder") from error
    try:
        source, made = work / f"kernel{input_suffix}", work / f"kernel{suffix}"
        source.write_text(text)
        command = [compiler, *options, "-o", str(made), str(source)]
        # In a folder of its own, so that the result does not depend on the current directory.
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            found = f"{Path(compiler).name} cannot compile a kernel:\n{_shortened(done.stderr, source)}"
            raise CompileError(found, _hint(done.stderr))
        # The checksum first: a file that lacks it, or differs from it, is rebuilt.
        (work / "sum").write_text(f"{_sum(made)}\n{done.stdout}{done.stderr}")
        os.replace(work / "sum", path.with_suffix(path.suffix + ".sum"))
        os.replace(made, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return path


def _hint(errors: str) -> str:
    if OF_A_WINDOW.search(errors):
        return NO_WINDOW
    if found := OF_A_MACRO.search(errors):
        return f'is {found[1]} a constant of the layer? def constants(self): return {{"{found[1]}": ...}}'
    return ""


def is_built(compiler: str, options: Sequence[str], text: str, input_suffix: str, suffix: str) -> bool:
    """Whether `build` would find the file in the cache."""
    return _whole(_path(compiler, options, text, suffix))


def _path(compiler: str, options: Sequence[str], text: str, suffix: str) -> Path:
    key = hashlib.sha256("\0".join([compiler, version(compiler), *options, text]).encode()).hexdigest()[:40]
    return folder() / f"{key}{suffix}"


def _whole(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return _recorded(path)[0] == _sum(path)
    return False


def compiler_output(path: Path) -> str:
    """The compiler's output from building a file: warnings, and whatever its options ask for."""
    return _recorded(path)[1]


def _recorded(path: Path) -> tuple[str, str]:
    total, _, output = path.with_suffix(path.suffix + ".sum").read_text().partition("\n")
    return total, output


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shortened(message: str, source: Path) -> str:
    """A compiler's message, cut to 30 lines, without the name of the temporary file."""
    lines = message.replace(str(source), "generated code").strip().splitlines()
    rest = [f"... and {len(lines) - 30} more lines"] if len(lines) > 30 else []
    return "\n".join("  " + line for line in lines[:30] + rest)
