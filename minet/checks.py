"""What settings of layers, losses and solvers are checked for."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any


def is_real(value: Any) -> bool:
    """Whether the value is one finite real number; a bool is not, a NumPy scalar is."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
