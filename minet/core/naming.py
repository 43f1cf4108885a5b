"""The names of layers in paths, errors and summaries, and where layers were made."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from functools import lru_cache
from importlib.machinery import PathFinder
from types import FrameType
from typing import Any

import numpy as np

MAKERS = ("minet.core.", "minet.torch.")  # modules that make layers for others
KIT = ("minet.testing",)


def stem_of(name: str) -> str:
    """The name in files of a class: gaussian_pool for GaussianPool, prelu for PReLU."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()


def caller(frame: FrameType | None, cls: type) -> tuple[str, int]:
    """File and line that made a layer: the innermost frame outside the modules that make layers for others.

    A layer made by the conformance kit has no such line; it gets that of its class.
    """
    while frame is not None and (name := str(frame.f_globals.get("__name__"))).startswith(MAKERS + KIT):
        if name.startswith(KIT):
            return defined(cls)
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("", 0)


@lru_cache
def defined(cls: type) -> tuple[str, int]:
    """File and line of a class; of one without a file, as in a notebook, those of its first method."""
    try:
        return inspect.getsourcefile(cls) or "", inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        code = next((value.__code__ for value in vars(cls).values() if inspect.isfunction(value)), None)
        return (code.co_filename, code.co_firstlineno) if code else ("", 0)


def relative(file: str | os.PathLike[str]) -> str:
    """A file's path, relative to the current folder if it lies inside; of a notebook's cell, its number."""
    file = os.fspath(file)
    if (cell := _cell(file)) is not None:
        return f"cell In[{cell}]"
    below = os.path.relpath(file) if os.path.isabs(file) else file
    return file if below.startswith("..") else below


def _cell(file: str) -> int | None:
    """The number of the notebook's cell that IPython compiled under the name of this file."""
    shell = IPython.get_ipython() if (IPython := sys.modules.get("IPython")) else None
    known = getattr(getattr(shell, "compile", None), "_filename_map", {})  # as IPython's own tracebacks do
    number: int | None = known.get(file)
    return number


def brief(value: Any) -> str:
    """A setting as typed; functions and classes by their names, arrays by their shape."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"<array {value.shape}>"
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__name__
    return repr(value)


def mib(size: int) -> str:
    """A number of bytes in MiB, such as ``1.5 MiB``."""
    return f"{size / 2**20:,.1f} MiB"


def near_to(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are close to a name, or else those that contain it: three at most."""
    known = list(known)
    return difflib.get_close_matches(name, known) or [one for one in known if name in one][:3]


def did_you_mean(name: str, known: list[str]) -> str:
    """A hint with the closest known name; empty if none is close."""
    match = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {match[0]}?" if match else ""


def hides_module(stem: str) -> bool:
    """Whether a file of that name would hide a module of Python's, or an installed one, in its folder."""
    installed = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]
    return stem in sys.stdlib_module_names or stem == "minet" or bool(PathFinder.find_spec(stem, installed))
