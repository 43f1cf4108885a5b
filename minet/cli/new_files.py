"""What `minet new-layer` and `minet new-model` share: names, templates, and writing all files or none."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from keyword import iskeyword
from pathlib import Path
from typing import Any

from minet.core.errors import MinetError
from minet.core.files import FileError, shipped
from minet.core.naming import hides_module, relative, stem_of


def class_name(name: str) -> str:
    """A name in any case as that of a class: MyLayer for my-layer, my_layer, myLayer and MyLayer."""
    return "".join(word[:1].upper() + word[1:] for word in re.split("[-_]", name))


def new_stem(name: str, what: str, known: Iterable[str]) -> str:
    """The name of a new file, without its ending.

    Parameters
    ----------
    name : str
        As typed.
    what : str
        "layer" or "model".
    known : iterable of str
        Names that minet has for such, in any case.

    Raises
    ------
    MinetError
        If it is no name, or names something that exists.
    """
    cls = class_name(name)
    stem, hint = stem_of(cls), "use ASCII letters, digits, - and _, and begin with a letter, as in my-layer"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", cls):
        hint = name[:-3] if name.endswith(".py") else hint.replace("layer", what)
        raise MinetError(f"{name!r} is not a name for a {what}", hint)
    if iskeyword(stem) or iskeyword(cls):
        raise MinetError(f"{name!r} is a keyword of Python", f"choose another: my-{stem}")
    if same := [one for one in known if _plain(one) == _plain(stem)]:
        raise MinetError(f"minet has a {what} {same[0]}", f"choose another name: my-{stem}")
    if hides_module(stem):
        found = f"{stem}.py would hide the module {stem} from programs in its folder"
        raise MinetError(found, f"choose another name: my-{stem}")
    return stem


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def template(path: str) -> str:
    """The text of one of minet's templates."""
    return (shipped("templates") / path).read_text()


def renamed(text: str, names: dict[str, str]) -> str:
    """A template's text with other names, inside longer ones too."""
    return re.sub("|".join(names), lambda found: names[found[0]], text)


def write_new(folder: Path, files: dict[str, str]) -> list[Path]:
    """Write new files into a folder, all or none; return their paths.

    Raises
    ------
    FileError
        If the folder is missing, a file exists, or one cannot be written.
    """
    if not folder.exists():
        raise FileError(f"{folder}: no such folder", f"mkdir -p {shlex.quote(str(folder))}")
    if not folder.is_dir():
        raise FileError(f"{folder}: is not a folder")
    written: list[Path] = []
    try:
        for path, text in ((folder / name, text) for name, text in files.items()):
            try:
                with path.open("x", encoding="utf-8") as file:
                    written.append(path)
                    file.write(text)
            except FileExistsError:
                found = f"{path} exists, and nothing is overwritten"
                raise FileError(found, "choose another name, or another folder by --dir") from None
            except OSError as error:
                raise FileError(f"{path}: cannot be written: {error.strerror}") from error
    except BaseException:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    return written


def report(written: list[Path], commands: Iterable[tuple[Any, ...]]) -> str:
    """What was written, and the commands to type next, each given as a program and its arguments."""
    lines = ["wrote " + ", ".join(map(str, written)), "next:"]
    return "\n".join(lines + [f"  {command(*words)}" for words in commands])


def command(program: Any, *words: Any) -> str:
    """A command that runs a program of this Python, such as minet or pytest, as it can be typed here."""
    beside = Path(sys.executable).with_name(program)
    if (found := shutil.which(program)) and os.path.abspath(found) == str(beside):
        start = program
    elif beside.is_file():
        start = shlex.quote(relative(beside))
    else:
        python = shlex.quote(relative(sys.executable))
        install = "" if importlib.util.find_spec(program) else f"{python} -m pip install {program} && "
        start = f"{install}{python} -m {program}"
    return " ".join([start, *(shlex.quote(str(word)) for word in words)])
