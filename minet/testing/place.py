"""Where the code at fault is: the file and line of a phase, and of NumPy's warnings."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from minet.backends.gpu import GPU
from minet.backends.host_fallback import HostWarning
from minet.core.layer import Layer
from minet.core.naming import defined, relative
from minet.core.node import Node

MINET = Path(__file__).parents[1]
NOT_AT_FAULT = tuple(
    map(str, (Path(np.__file__).parent, Path(warnings.__file__), MINET / "core", MINET / "backends"))
)


def code_of(node: Node, phase: str, be: Any) -> str:
    """File, line and name of the code with which a backend computes a phase of a node.

    Parameters
    ----------
    node : Layer or Loss
    phase : str
        "fprop", "bprop" or "loss"; for any other, the place is the class's.
    be : Backend or str
    """
    cls: Any = type(node)
    names = [f"{phase}_cpu"]
    if isinstance(be, GPU):
        how, code = be.how(cls, phase)
        if how == "kernel" and (path := be.file_of(cls, code)):
            return f"{be.read(path).kernels[code].place}, {code}"
        names = [f"{phase}_gpu", *names] if how == "method" else names
    if isinstance(node, Layer) and getattr(cls, phase, None) is not getattr(Layer, phase, None):
        names = [phase]  # made of backend calls
    for name in names:
        if method := getattr(cls, name, None):
            code = inspect.unwrap(method).__code__
            return f"{relative(code.co_filename)}:{code.co_firstlineno}, {name}"
    file, line = defined(cls)
    return f"{relative(file)}:{line}, {cls.__name__}" if file else ""


@contextmanager
def gathered(found: dict[str, None]) -> Iterator[None]:
    """Collect warnings as ``message at file:line``, each once, instead of showing them.

    The line is a layer's, not that of NumPy's or minet's function that it calls. That a layer has no kernel
    is no fault of its code, and is left out.
    """

    def keep(message: Warning | str, category: type, filename: str, lineno: int, *_: Any) -> None:
        if not issubclass(category, HostWarning):
            found[f"{message} at {_line() or f'{relative(filename)}:{lineno}'}"] = None

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = keep  # type: ignore[assignment]
        yield


def _line() -> str:
    """File and line of the innermost call that is made outside NumPy and minet, but below the kit."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(NOT_AT_FAULT):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(str(MINET / "testing")):
        return ""
    return f"{relative(frame.f_code.co_filename)}:{frame.f_lineno}"
