"""CUDA source as the GPU backends compile it: headers inlined, kernel parameters parsed."""

from __future__ import annotations

import contextlib
import re
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from inspect import getfile
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.files import shipped
from minet.core.naming import relative, stem_of

# How an argument of each type is packed (letters of the struct module), and what an array must hold.
SCALARS = {
    "int": "i", "unsigned": "I", "unsigned int": "I", "float": "f", "double": "d", "long long": "q",
    "unsigned long long": "Q", "size_t": "Q", "bool": "?", "index_t": "q",
}  # fmt: skip
ELEMENTS = {
    "float": "float32", "double": "float64", "int": "int32", "unsigned": "uint32", "unsigned int": "uint32",
    "unsigned char": "uint8", "uint8_t": "uint8", "unsigned short": "uint16", "uint16_t": "uint16",
    "long long": "int64", "unsigned long long": "uint64", "char": "int8", "bool": "bool",
}  # fmt: skip
_DTYPES = {name: np.dtype(kind) for name, kind in ELEMENTS.items()}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: ``const float *x`` has type "float" and is a pointer."""

    name: str
    type: str
    pointer: bool

    def __str__(self) -> str:
        return f"{self.type} *{self.name}" if self.pointer else f"{self.type} {self.name}"


@dataclass(frozen=True)
class Kernel:
    """A ``__global__`` function: its name, its parameters and its line."""

    name: str
    parameters: tuple[Parameter, ...]
    place: str

    @cached_property
    def layout(self) -> struct.Struct:
        """The memory layout of its arguments, each aligned to its size, as CUDA and C require."""
        return struct.Struct("@" + "".join("P" if p.pointer else SCALARS[p.type] for p in self.parameters))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))})"


@dataclass(frozen=True)
class Source:
    """A .cu file with its headers inlined: one text, with `#line` marks for where each part is from."""

    path: Path
    text: str
    kernels: dict[str, Kernel]

    def __hash__(self) -> int:
        return hash((self.path, self.text))

    @cached_property
    def asked(self) -> dict[str, frozenset[str]]:
        """The names of each kernel's parameters."""
        return {
            name: frozenset(parameter.name for parameter in kernel.parameters)
            for name, kernel in self.kernels.items()
        }


@cache
def own(stem: str) -> Path:
    """The path of minet's own .cu file with this stem; always the same object, for fast look-ups."""
    return shipped("kernels") / f"{stem}.cu"


def beside(cls: type) -> Path | None:
    """The .cu file of a class's kernels: next to the class's file; for minet's own classes, in kernels/."""
    folder = _folder(cls)
    paths = [folder / f"{stem}.cu" for stem in stems(cls)] if folder else []
    return next((path for path in paths if path.is_file()), None)


def files_of(cls: type) -> list[Path]:
    """All .cu files of a class's kernels: its own, ``<stem>.cu``, and those next to it, ``<stem>_*.cu``."""
    path = beside(cls)
    return [path, *sorted(path.parent.glob(f"{path.stem}_*.cu"))] if path else []


def stems(cls: type) -> list[str]:
    """The stems that a class's .cu file and its kernels may have: of LSEPool both lsepool and lse_pool."""
    apart = re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    return list(dict.fromkeys((stem_of(cls.__name__), apart)))


def kernel_of(cls: type, phase: str, source: Source) -> str | None:
    """The name of the kernel in a class's file that computes a phase; None if there is none."""
    return next((name for stem in stems(cls) if (name := f"{stem}_{phase}") in source.kernels), None)


def unused(cls: type, phases: Sequence[str], launched: bool = False) -> str:
    """What is wrong if kernels seem to be meant for a class, but serve none of these phases; else empty.

    Meant for it are those of its own file, or if methods launch some of them, those whose names end with such
    a phase or are not in the code; a file named as its Python file, unless it serves another class there; and
    kernels of its name in any file next to it.
    """
    folder, wanted = _folder(cls), [f"{stem}_{phase}" for phase in phases for stem in stems(cls)]
    looked = f"looked for {' or '.join(f'{stem}.cu' for stem in stems(cls))} with {' or '.join(wanted)}"
    if path := beside(cls):
        known = [f"{stem}_{phase}" for stem in stems(cls) for phase in ("fprop", "bprop")]
        others = [name for name in read(path).kernels if name not in known]
        if launched:
            ends = tuple(f"_{phase}" for phase in phases)
            code = "".join(_text(Path(getfile(base))) for base in cls.__mro__ if _folder(base))
            others = [name for name in others if name.endswith(ends) or name not in code]
        return f"{relative(path)} has kernels {', '.join(others)}; {looked}" if others else ""
    neighbours = [value for value in vars(sys.modules[cls.__module__]).values() if isinstance(value, type)]
    serving = [beside(other) for other in neighbours if other.__module__ == cls.__module__]
    for path in sorted(folder.glob("*.cu")) if folder else ():
        named = path.stem == Path(getfile(cls)).stem or re.search(rf"\b({'|'.join(wanted)})\b", _text(path))
        if named and path not in serving:
            return f"{relative(path)} is not used; {looked}"
    return ""


def _folder(cls: type) -> Path | None:
    """Where a class's .cu file is looked for."""
    if cls.__module__.startswith("minet."):
        return shipped("kernels")
    try:
        return Path(getfile(cls)).parent
    except (TypeError, OSError):
        return None


def read(path: Path) -> Source:
    """Read a .cu file, again only if it has changed.

    Raises
    ------
    MinetError
        If the file or a header cannot be read, or a kernel parameter has a type that minet cannot pass.
    """
    stamps, code = _known.get(path, ({}, None))
    if code is None or any(_stamp(file) != stamp for file, stamp in stamps.items()):
        headers: set[Path] = set()
        text = _inlined(path, headers)
        code = Source(path, text, {kernel.name: kernel for kernel in _kernels(path)})
        _known[path] = {file: _stamp(file) for file in (path, *headers)}, code
    return code


_known: dict[Path, tuple[dict[Path, Any], Source]] = {}  # with the stamps of all files that went into it


def _stamp(path: Path) -> Any:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return None


def _inlined(path: Path, seen: set[Path]) -> str:
    """The text with each ``#include "..."`` replaced by the file: next to this one, or in minet's kernels."""
    lines = [f'#line 1 "{relative(path)}"']
    for number, line in enumerate(_text(path).splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if not found:
            once = re.match(r"\s*#\s*pragma\s+once\b", line)  # true anyway, and meaningless in the main file
            lines.append("" if once else line)
            continue
        header = next(
            (p for base in (path.parent, shipped("kernels")) if (p := base / found[1]).is_file()), None
        )
        if header is None:
            where = f"{relative(path)}:{number}"
            raise MinetError(
                f"{where}: header {found[1]!r} was not found next to it, nor in {shipped('kernels')}"
            )
        if header not in seen:
            seen.add(header)
            lines += [_inlined(header, seen), f'#line {number + 1} "{relative(path)}"']
        else:
            lines.append("")
    return "\n".join(lines) + "\n"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise MinetError(f"{path}: cannot be read: {error}") from error


def without_comments(text: str) -> str:
    """The text with its comments blanked: everything else keeps its place."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.DOTALL)


def blank(found: re.Match[str]) -> str:
    """What a pattern found as spaces, so that all else keeps its place."""
    return re.sub(r"[^\n]", " ", found[0])


def _kernels(path: Path) -> list[Kernel]:
    """The kernels that a file defines, as ``extern "C" __global__ void name(...)``, or in a block of them."""
    text = without_comments(_text(path))
    kernels, blocks = [], [(start.end(), _closing(text, start.end())) for start in re.finditer(BLOCK, text)]
    bounds = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
    kernel = rf'(extern\s+"C"\s+)?__global__\s+{bounds}void\s+{bounds}(\w+)\s*\(([^)]*)\)'
    for found in re.finditer(kernel, text):
        place = f"{relative(path)}:{text.count(chr(10), 0, found.start(2)) + 1}"
        if not (found[1] or any(start <= found.start() < end for start, end in blocks)):
            hint = f'extern "C" __global__ void {found[2]}('
            raise MinetError(f'{place}: {found[2]} must be extern "C"', hint)
        parts = [part.strip() for part in found[3].split(",") if part.strip()]
        kernels.append(Kernel(found[2], tuple(_parameter(part, place) for part in parts), place))
    return kernels


BLOCK = r'\bextern\s+"C"\s*\{'


def _closing(text: str, start: int) -> int:
    """The position of the brace that closes the one before `start`."""
    depth = 1
    for brace in re.finditer("[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return start + brace.start()
    return len(text)


def _parameter(text: str, place: str) -> Parameter:
    words = re.sub(r"\b(const|__restrict__|restrict|volatile)\b", " ", text).replace("*", " * ").split()
    type_, pointer = " ".join(word for word in words[:-1] if word != "*"), words.count("*")
    named = len(words) > 1 and words[-1].isidentifier()
    if pointer > 1 or not named or (not pointer and type_ not in SCALARS):
        known = ", ".join(SCALARS)
        raise MinetError(f"{place}: a kernel cannot take {text!r}", f"use a pointer to numbers, or {known}")
    return Parameter(words[-1], type_, bool(pointer))


def element(parameter: Parameter, constants: dict[str, Any]) -> np.dtype | None:
    """The NumPy type that a pointer's array must hold; None if the type is the kernel's own."""
    return _DTYPES.get(constants.get(parameter.type, parameter.type))


def defines(constants: dict[str, Any]) -> list[str]:
    """Compiler options that define the constants; a Python float becomes a float literal."""

    def written(value: Any) -> str:
        if isinstance(value, (bool, np.bool_)):
            return str(int(value))
        return f"{value!r}f" if isinstance(value, float) else str(value)

    return [f"-D{name}={written(value)}" for name, value in sorted(constants.items())]
