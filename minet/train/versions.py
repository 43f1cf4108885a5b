"""Versions of a model's code: the texts that a run keeps, and what of them has changed since.

They are that of the model file and, of what lies in its folder or below, those of the modules that it imports
and of their layers' kernels. They are found by reading, nothing is executed: a run may come from anywhere.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minet.backends.cuda_source import stems


def source(path: Path) -> str:
    """The text of a file of Python or CUDA."""
    try:
        return importlib.util.decode_source(path.read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError):  # which running the file reports
        return ""


def edits(before: str, now: str) -> list[str]:
    """The lines that differ between two versions of a file; none if they do the same."""
    with contextlib.suppress(SyntaxError, ValueError):
        if ast.dump(ast.parse(before)) == ast.dump(ast.parse(now)):  # comments and layout do not matter
            return []
    changed = difflib.unified_diff(before.splitlines(), now.splitlines(), n=0, lineterm="")
    return [line for line in list(changed)[2:] if not line.startswith("@@")]


def beside(path: Path) -> dict[str, str]:
    """The texts of the files in a model file's folder that it depends on, by their paths there."""
    path = path.resolve()
    found, left = dict[Path, str](), [path]
    while left:
        if (file := left.pop()) not in found:
            text = found[file] = source(file)
            near = _modules(file, text, path.parent) if file.suffix == ".py" else _headers(file, text)
            left += [one for one in near if one.is_file() and one.is_relative_to(path.parent)]
    return {file.relative_to(path.parent).as_posix(): found[file] for file in sorted(found) if file != path}


def changed(path: Path, facts: dict[str, Any]) -> tuple[Path, list[str]] | None:
    """The first file of a model that is not as in a run with these facts, and the lines that differ."""
    before, now = {path.name: facts.get("text")}, {path.name: source(path)}
    if "beside" in facts:  # which runs of earlier versions do not have
        before, now = before | facts["beside"], now | beside(path)
    for name in [*before, *now]:
        theirs = before.get(name, "")
        if theirs is not None and (lines := edits(str(theirs), now.get(name, ""))):
            return path.parent / name, lines
    return None


def _modules(file: Path, text: str, folder: Path) -> Iterator[Path]:
    """Where the modules that a file imports would lie, in `folder` or a package, and its layers' kernels."""
    with contextlib.suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield from _along(folder, name.name)
            elif isinstance(node, ast.ImportFrom):
                place = Path(file, *[".."] * node.level).resolve() if node.level else folder
                for name in node.names:
                    yield from _along(place, f"{node.module or ''}.{name.name}")
            elif isinstance(node, ast.ClassDef):
                for stem in stems(type(node.name, (), {})):
                    yield from [file.with_name(f"{stem}.cu"), *sorted(file.parent.glob(f"{stem}_*.cu"))]


def _along(place: Path, name: str) -> Iterator[Path]:
    """The files of a module and of the packages around it."""
    parts = name.strip(".").split(".")
    for part in [] if parts[0] == "minet" else parts:
        yield from (place / f"{part}.py", place / part / "__init__.py")
        place /= part


def _headers(file: Path, text: str) -> list[Path]:
    found = re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE)
    return [(file.parent / name).resolve() for name in found]
