"""Run files that users write, and write files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from minet.core.errors import MinetError
from minet.core.naming import relative
from minet.core.node import LayerError


class FileError(MinetError):
    """A file that is missing, or that cannot be read, run or written."""


def run_file(path: Path) -> ModuleType:
    """Run a Python file as a module, which can import its neighbours.

    Its folder joins the end of sys.path, for processes that it starts: they import the module by its name.

    Raises
    ------
    FileError
        If the file is missing or does not run; the message names the line where it stopped.
    """
    shown = relative(path)
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise FileError(f"{shown}: no such file") from None
    except IsADirectoryError:
        raise FileError(f"{shown}: is a folder", "name the .py file in it") from None
    except OSError as error:
        raise FileError(f"{shown}: cannot be read: {error.strerror}") from error
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = ModuleType(_name(path))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses, Numba and pickle look for a function
    try:
        with importing_from(path.parent):
            exec(compile(source, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        elsewhere = error.filename and Path(error.filename) != path
        raise FileError(f"{error.filename if elsewhere else shown}{line}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise_with_line(path, error)
    return module


def _name(path: Path) -> str:
    """The name by which any process can import a file; one of minet's if that means another file."""
    return path.stem if _meant(path.stem) == str(path) else f"minet_file_{path.stem}"


def _meant(name: str) -> str | None:
    """The file of the module that this process has imported, or would import, by that name."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    spec = PathFinder.find_spec(name)
    return spec.origin if spec else None


@contextlib.contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Within this context, imports look in a folder first, as in a script that lies there.

    Modules of the same names that lie elsewhere, installed or beside another file, come back afterwards.
    """
    here = {path.stem: path for path in folder.glob("*.py")}
    here |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    pythons = sys.stdlib_module_names | {"minet"}
    others = {name for name, file in here.items() if name not in pythons and _meant(name) != str(file)}

    def modules() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in others]

    aside = {name: sys.modules.pop(name) for name in modules()}
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in modules():
            del sys.modules[name]
        sys.modules.update(aside)


def raise_with_line(path: Path, error: BaseException) -> NoReturn:
    """Raise the error with its line of the file in front; minet's own errors keep their class."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path.resolve())]
    where = f"{relative(path)}:{lines[-1]}" if lines else relative(path)
    if not isinstance(error, MinetError):
        raise FileError(f"{where}: {type(error).__name__}: {error}".removesuffix(": ")) from error
    if not (isinstance(error, LayerError) and error.layer):  # which names its place already
        error.message = f"{where}: {error.message}"
    raise error


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file atomically: readers, even after a crash, find the old content or the new, never a part.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written: {error.strerror or error}",
            "check the free space and your permissions",
        ) from error


def shipped(name: str) -> Path:
    """The folder of minet's own ``kernels`` or ``models``: inside an installed package, else beside it."""
    package = Path(__file__).parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
