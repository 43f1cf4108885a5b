"""Where Numba keeps compiled kernels if neither minet's folder nor the user's may be written to."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import tempfile
import warnings
from typing import Any

VARIABLE = "NUMBA_CACHE_DIR"


def use_temporary() -> None:
    """Make Numba cache kernels in a folder that this process removes at its end, and say so."""
    config: Any = importlib.import_module("numba").config
    folder = tempfile.mkdtemp(prefix="minet-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[VARIABLE] = config.CACHE_DIR = folder  # Numba reads the variable again when others change
    warnings.warn(
        "no folder for Numba's cache can be written to: kernels are compiled for this process alone; "
        f"to keep them, set {VARIABLE} to a writable folder",
        stacklevel=2,
    )


def is_temporary(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is in such a cache."""
    return "minet-numba-" in os.fspath(folder)
