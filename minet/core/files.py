"""Run files that users write, and write files whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
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

    Its folder joins the end of sys.path, for processes that it starts: they import the module by its name, or
    if that means another module, by the folder's and its own.

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
    name, folders = _name(path)
    sys.path += [folder for folder in folders if folder not in sys.path]
    module = ModuleType(name)
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


def _name(path: Path) -> tuple[str, list[str]]:
    """The name by which any process can import a file that has these folders in its sys.path.

    If both names mean other modules, it gets one of minet's, by which no other process finds it.
    """
    folder, around = path.parent, path.parent.parent
    if _meant(path.stem, folder) == str(path):
        return path.stem, [str(folder)]
    if _meant(folder.name, around) is None and _meant(f"{folder.name}.{path.stem}", around) == str(path):
        return f"{folder.name}.{path.stem}", [str(folder), str(around)]
    return f"minet_file_{path.stem}", [str(folder)]


def _meant(name: str, folder: Path | None = None) -> str | None:
    """The file of the module that this process has imported, or would import, by that name.

    `folder` counts as the end of sys.path. A folder without ``__init__.py`` is a module without a file.
    """
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    places = [*sys.path, *([str(folder)] if folder else [])]
    if package := name.rpartition(".")[0]:
        found = PathFinder.find_spec(package, places)
        places = list(found.submodule_search_locations or []) if found else []
    spec = PathFinder.find_spec(name, places)
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
        hint = "check the free space and your permissions"
        if not path.parent.exists():
            hint = f"make the folder {path.parent} first"
        raise FileError(f"{path}: cannot be written: {error.strerror or error}", hint) from error


def cache_folder() -> Path:
    """The folder of compiled kernels: ``$MINET_CACHE``, or ``minet/kernels`` in the user's cache folder."""
    if given := os.environ.get("MINET_CACHE"):
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minet" / "kernels"


def kept(stem: str, suffix: str, text: str) -> Path:
    """A file in the cache folder with this text, written once: its name holds the text's hash.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    path = cache_folder() / f"{stem}_{hashlib.sha256(text.encode()).hexdigest()[:16]}{suffix}"
    try:
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            number, part = tempfile.mkstemp(suffix, stem, path.parent)  # of its own: others may write it too
            with open(number, "w") as file:
                file.write(text)
            os.replace(part, path)
    except OSError as error:
        found = f"cannot write to the cache of compiled kernels, {path.parent}: {error.strerror}"
        raise FileError(found, "set MINET_CACHE to a writable folder") from error
    return path


def shipped(name: str) -> Path:
    """The folder of minet's ``kernels``, ``models`` or ``templates``: in the package, else beside it."""
    package = Path(__file__).parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
