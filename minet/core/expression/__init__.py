"""Expressions of one input and parameters: read, differentiated, and written as code.

SymPy is imported here only when an expression is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minet.core.errors import MinetError


@dataclass(frozen=True, eq=False)
class Formula:
    """An expression with its derivatives, as SymPy's objects.

    Attributes
    ----------
    text : str
    y : Expr
    dx : Expr
        The derivative with respect to x, times ``dy``.
    grads : dict of str to Expr
        Likewise for each parameter: what is summed over x.
    """

    text: str
    y: Any
    dx: Any
    grads: dict[str, Any]


def formula(text: str, values: Mapping[str, Sequence[float]]) -> Formula:
    """Read an expression in ``x`` and parameters.

    Parameters
    ----------
    text : str
    values : mapping of str to sequence of float
        The parameters, by name, each with numbers for which the expression must have a value.

    Raises
    ------
    MinetError
        If SymPy is missing, or the expression cannot be read or differentiated: with the place in its text.
    """
    if not isinstance(text, str) or not text.strip():
        raise MinetError(f"the expression must be text, got {text!r}", 'such as "x * sigmoid(b * x)"')
    if "#" in text:  # it would hide the rest of the text
        raise MinetError("an expression has no comments, found #", "leave out # and what follows it")
    text = " ".join(text.split())
    try:
        return _formula(text, tuple((name, tuple(numbers)) for name, numbers in values.items()))
    except RecursionError:
        raise MinetError("the expression is too deeply nested") from None


@lru_cache(maxsize=256)
def _formula(text: str, values: tuple[tuple[str, tuple[float, ...]], ...]) -> Formula:
    try:
        import sympy
    except ImportError:
        found = "an expression is differentiated by SymPy, which is not installed"
        raise MinetError(found, "pip install sympy") from None
    from minet.core.expression.functions import CONSTANTS, FUNCTIONS
    from minet.core.expression.parse import parsed

    for name, _ in values:
        if not (name.isascii() and name.isidentifier()) or name in {"x", *FUNCTIONS, *CONSTANTS}:
            found = f"a parameter cannot be called {name!r}"
            raise MinetError(found, "use letters, and none of x, pi and the functions' names")
    y = parsed(text, dict(values))
    slopes = {name: y.diff(sympy.Symbol(name)) for name in ("x", *dict(values))}
    for name, slope in slopes.items():
        if slope == 0:
            occurs = name in {symbol.name for symbol in y.free_symbols}
            why = "has the derivative 0 everywhere" if occurs else "does not occur"
            raise MinetError(f"{name} {why} in the expression:\n    {text}")
    dx, *grads = (_times_dy(slope, sympy.Symbol("dy")) for slope in slopes.values())
    return Formula(text, y, dx, dict(zip(dict(values), grads, strict=True)))


def _times_dy(slope: Any, dy: Any) -> Any:
    """``dy * slope``, inside the branches of a choice: where a slope is 0, not even a NaN in dy matters."""
    from minet.core.expression.functions import Where

    if isinstance(slope, Where):
        condition, a, b = slope.args
        return Where(condition, _times_dy(a, dy), _times_dy(b, dy))
    return dy * slope
