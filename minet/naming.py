"""What layers are called in paths, errors and summaries, and where they were made."""

from __future__ import annotations

import inspect
import os
import re
from functools import lru_cache
from types import FrameType
from typing import Any

import numpy as np

MAKERS = {"minet.layer", "minet.containers", "minet.net"}
KIT = {"minet.rig", "minet.testing", "minet.conformance", "minet.parity"}


def stem_of(name: str) -> str:
    """GaussianPool is gaussian_pool, PReLU is prelu."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()


def caller(frame: FrameType | None, cls: type) -> tuple[str, int]:
    """File and line that made a layer: the innermost frame that is not of what makes layers for others.

    A layer that the conformance kit makes from its class alone has no such line: then it is the class's.
    """
    while frame is not None and (name := frame.f_globals.get("__name__")) in MAKERS | KIT:
        if name in KIT:
            return defined(cls)
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("", 0)


@lru_cache
def defined(cls: type) -> tuple[str, int]:
    """File and line of a class."""
    try:
        return inspect.getsourcefile(cls) or "", inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return "", 0


def short(file: str) -> str:
    """A file's path from the current folder, if it lies below."""
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return file if relative.startswith("..") else relative


def brief(value: Any) -> str:
    """A setting as one would type it; functions and classes by their names, arrays by their shape."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"<array {value.shape}>"
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__name__
    return repr(value)
