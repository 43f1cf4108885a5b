"""Checks of settings, for layers, initialisers and solvers."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from minet.core.errors import MinetError


def is_real(value: Any) -> bool:
    """Whether the value is a finite Python or NumPy number; a bool is not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Whether the value is a Python or NumPy integer; a bool is not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A NumPy number as Python's, which neither wraps around nor has few bits; others as they are."""
    return value.item() if isinstance(value, np.generic) else value


def checked_batch(batch: Any) -> int:
    """The batch size as an int; raises MinetError unless it is a whole number of at least 1."""
    if not is_whole(batch) or batch < 1:
        raise MinetError(f"batch must be a whole number of at least 1, got {batch!r}")
    return int(batch)
