"""What settings are checked for, in layers, initialisers and solvers."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def is_real(value: Any) -> bool:
    """Whether the value is one finite number, Python's or NumPy's; a bool is not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Whether the value is one integer, Python's or NumPy's; a bool is not."""
    return isinstance(value, Integral) and not isinstance(value, bool)
