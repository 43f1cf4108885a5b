"""A kernel's launch under g++'s AddressSanitizer and UBSan, in a process that loads them before Python.

The two processes write to a folder: what is asked as JSON, and the bytes of arrays and variables as they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.emulator.arguments import Arguments, Block
from minet.emulator.description import Global
from minet.testing import sanitize

CHILD = "minet.emulator.child"


def run(
    asked: dict[str, Any], args: Sequence[Any], arguments: Arguments, variables: dict[str, Global]
) -> None:
    """Run a kernel in a process of its own, and copy what it wrote back.

    Parameters
    ----------
    asked : dict
        The kernel and its launch, for `child`.
    args : sequence
        The call's arguments.
    arguments : Arguments
        The same, checked and packed.
    variables : dict
        The file's variables in the device's memory.

    Raises
    ------
    MinetError
        If a sanitizer finds something, if it is missing, or if the launch is refused.
    """
    __tracebackhide__ = True
    name = asked["name"]
    with tempfile.TemporaryDirectory() as folder:
        asked["variables"] = {key: one.size for key, one in variables.items()}
        asked["blocks"] = [(one.length, one.offset()) for one in arguments.own()]
        asked["args"] = [_described(arguments, i, value) for i, value in enumerate(args)]
        Path(folder, "asked.json").write_text(json.dumps(asked))
        places: list[Global | Block] = [*variables.values(), *arguments.own()]
        Path(folder, "memory").write_bytes(b"".join(one.content() for one in places))
        done = subprocess.run(
            [sys.executable, "-m", CHILD, folder], env={**os.environ, **sanitize.environment()},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        sys.stdout.write(done.stdout)
        if done.returncode == sanitize.FOUND:
            text = sanitize.summarized(done.stderr)
            raise MinetError(text.replace("kernel on the emulator", f"{name} on the emulator", 1))
        if done.returncode:
            found = f"{name} on the emulator: its process under the sanitizers died"
            raise MinetError(f"{found}\n{done.stderr.strip()[-2000:]}", "try it without sanitize")
        if error := json.loads(Path(folder, "answer.json").read_text()):
            raise MinetError(*error)
        after = Path(folder, "memory").read_bytes()
    at = 0
    for place in places:
        place.put(after[at : at + place.length])
        at += place.length


def _described(arguments: Arguments, number: int, value: Any) -> Any:
    """One argument, for JSON: an array as its block and its place there, anything else as bytes."""
    parameter = arguments.parameters[number]
    if not parameter.pointer:
        return arguments.scalar(parameter, value).hex()
    if isinstance(value, (tuple, list)):
        return [_array(arguments, one) for one in value]
    return _array(arguments, value)


def _array(arguments: Arguments, value: np.ndarray | None) -> Any:
    if value is None or not value.size:
        return None
    kind = value.dtype.str if value.dtype.names is None else f"V{value.itemsize}"
    own = arguments.own()
    number = next(i for i, b in enumerate(own) if b.start <= value.ctypes.data < b.start + b.length)
    return {
        "block": number, "at": value.ctypes.data - own[number].start, "dtype": kind, "shape": value.shape,
        "order": "C" if value.flags.c_contiguous else "F", "writeable": bool(value.flags.writeable),
    }  # fmt: skip
