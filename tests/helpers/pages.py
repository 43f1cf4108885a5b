"""Running the pages: a page's programs and commands, in its order, in a folder of its own.

A block is code between fences, and its first line says what becomes of it:

    ```python                     runs, in one namespace for the whole page
    ```python title="swish.py"    is written to that file; ```cuda, ```toml and so on likewise;
                                  "swish.py, at the end" is added to it
    ```console                    lines that begin with $ run in a shell; what follows them is their output

In an output ``...`` stands for any text, and a number with a point or a comma for any number: times, rates
and accuracies differ from machine to machine. A block after ``<!-- not run: REASON -->`` is only shown.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)(```+)([\w-]*)(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its first line of code."""

    language: str
    title: str
    code: str
    line: int
    shown: bool  # only shown, not run

    @property
    def runs(self) -> bool:
        return self.language in ("python", "console") and not self.shown


def blocks(text: str) -> Iterator[Block]:
    """Yield a page's fenced blocks in its order."""
    lines = text.splitlines()
    at, skip = 0, False
    while at < len(lines):
        if opened := FENCE.match(lines[at]):
            indent, fence, language, rest = opened.groups()
            start = at + 1
            at = next(i for i in range(start, len(lines)) if lines[i].strip() == fence)
            title = re.search(r'title="([^"]+)"', rest)
            code = "".join(line.removeprefix(indent) + "\n" for line in lines[start:at])
            yield Block(language, title[1] if title else "", code, start + 1, skip)
            skip = False
        elif lines[at].strip():
            skip = lines[at].startswith("<!-- not run:")
        at += 1


def run(page: Path, folder: Path) -> int:
    """Run a page's blocks in a folder; return how many programs and commands that were."""
    space: dict[str, object] = {"__name__": "__main__"}
    count, before = 0, Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        for block in blocks(page.read_text()):
            if block.shown:
                continue
            where = f"{page.name}:{block.line}"
            if block.title:
                name = block.title.removesuffix(", at the end")
                sys.modules.pop(Path(name).stem, None)  # another page's, of the same name
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(path.read_text() + block.code if block.title != name else block.code)
            elif block.language == "python":
                code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
                exec(code, space)
                count += 1
            elif block.language == "console":
                for command, expected in commands(block.code):
                    check(command, expected, folder, where)
                    count += 1
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))
    return count


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield a console block's commands, each with the output that is shown after it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command.partition("  # ")[0], expected


def check(command: str, expected: str, folder: Path, where: str) -> None:
    """Run a command; compare its output with the expected one, if a page shows any.

    A command that fails is meant to if the page shows its error.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = done.stdout
    assert expected.strip() or done.returncode == 0, f"{where}: {command}\n{output}"
    pattern = re.escape(" ".join(expected.split())).replace(r"\.\.\.", ".*")
    pattern = re.sub(r"\d+(?:(?:,|\\\.)\d+)+(?:e(?:\\-)?\d+)?", r"[\\d,.e-]+", pattern)
    found = " ".join(output.split())
    assert not expected.strip() or re.fullmatch(pattern, found, re.DOTALL), (
        f"{where}: {command}\nshown:\n{expected}\nprinted:\n{output}"
    )
