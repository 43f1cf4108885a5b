"""The functions of expressions, as SymPy sees them, each with its value in float64 and its derivative.

They are not SymPy's own: those rewrite what they are given (the square root of ``x**2`` becomes ``|x|``), and
a derivative that is right on paper may overflow. Here each derivative is in a form that does not, where there
is one. Conditions are functions too: SymPy leaves them as they are, and nothing takes their derivatives.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from sympy import Add, Function, Integer, Mul, Pow, Rational


def number(value: float) -> Any:
    """A finite float64 as a fraction of its shortest decimal form, which prints as the same float64."""
    return Rational(repr(value))


def made(name: str, value: Callable[..., Any] | None = None, base: type = Function, **members: Any) -> Any:
    """A class of SymPy functions; `value` computes it in float64."""
    members = {"__module__": __name__, "value": value and staticmethod(value)} | members
    return type(name, (base,), members)


def of_one(
    name: str, value: Callable[[float], float], slope: Callable[[Any, Any], Any], **members: Any
) -> Any:
    """A function of one argument x; ``slope(y, x)`` is its derivative, y being the function's own value."""
    return made(name, value, Known, fdiff=lambda self, argindex=1: slope(self, self.args[0]), **members)


def _logistic(a: Any) -> Any:
    """The u of ``1 + exp(u)``; None if `a` is something else."""
    rest = a - 1
    return rest.args[0] if isinstance(rest, Exp) else None


def _softplus_of(cls: Any, a: Any) -> Any:
    u = _logistic(a)
    return None if u is None else Softplus(u)


Known: Any = made("Known")
Condition: Any = made("Condition")  # what the first argument of Where is
Less: Any = made("Less", operator.lt, Condition)
LessEqual: Any = made("LessEqual", operator.le, Condition)
Greater: Any = made("Greater", operator.gt, Condition)
GreaterEqual: Any = made("GreaterEqual", operator.ge, Condition)
Equal: Any = made("Equal", operator.eq, Condition)
Unequal: Any = made("Unequal", operator.ne, Condition)  # of a NaN, a != a holds
And: Any = made("And", lambda *each: all(each), Condition)
Or: Any = made("Or", lambda *each: any(each), Condition)
Not: Any = made("Not", operator.not_, Condition)

# a where the condition holds, b elsewhere; the other one has no influence, even if it is NaN.
Where: Any = made(
    "Where",
    eval=classmethod(lambda cls, condition, a, b: a if a == b else None),
    _eval_derivative=lambda self, by: Where(self.args[0], self.args[1].diff(by), self.args[2].diff(by)),
)

Abs: Any = of_one("Abs", abs, lambda y, x: Where(Greater(x, 0), 1, Where(Less(x, 0), -1, 0)))
Cos: Any = of_one("Cos", math.cos, lambda y, x: -Sin(x))
Erf: Any = of_one("Erf", math.erf, lambda y, x: number(2 / math.sqrt(math.pi)) * Exp(-(x**2)))
Exp: Any = of_one("Exp", math.exp, lambda y, x: y)
Expm1: Any = of_one("Expm1", math.expm1, lambda y, x: Exp(x))
Log: Any = of_one("Log", math.log, lambda y, x: 1 / x, eval=classmethod(_softplus_of))
Log1p: Any = of_one("Log1p", math.log1p, lambda y, x: 1 / (1 + x))
Sigmoid: Any = of_one("Sigmoid", lambda x: 0.5 + 0.5 * math.tanh(0.5 * x), lambda y, x: y * (1 - y))
Sin: Any = of_one("Sin", math.sin, lambda y, x: Cos(x))
Softplus: Any = of_one(
    "Softplus", lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))), lambda y, x: Sigmoid(x)
)
Sqrt: Any = of_one("Sqrt", math.sqrt, lambda y, x: Rational(1, 2) / y)
Tanh: Any = of_one("Tanh", math.tanh, lambda y, x: (1 - y) * (1 + y))


def _simpler_power(cls: Any, a: Any, b: Any) -> Any:
    if b.is_Integer:
        return a**b
    return Sqrt(a) if b == Rational(1, 2) else None


def _slope_of_power(self: Any, argindex: int = 1) -> Any:
    a, b = self.args
    if argindex == 1:
        return b * Power(a, b - 1)
    if a.is_Number:
        return number(math.log(a)) * self
    return Where(LessEqual(a, 0), 0, self * Log(a))  # 0**b is 0 for any b above 0, yet log(0) is infinite


# a**b for a b that is not a whole number; those are SymPy's own powers.
Power: Any = made("Power", operator.pow, eval=classmethod(_simpler_power), fdiff=_slope_of_power)


def reciprocal(a: Any) -> Any:
    """``1 / a``; ``1 / (1 + exp(u))`` as a sigmoid, whose derivative does not divide infinity by itself."""
    u = _logistic(a)
    return Pow(a, -1) if u is None else Sigmoid(-u)


def maximum(a: Any, b: Any) -> Any:
    """The larger; where they are equal, the slope is that of b, or of a number if one is. NaN stays NaN."""
    return _chosen(LessEqual, a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller, likewise."""
    return _chosen(GreaterEqual, a, b)


def _chosen(compare: Any, a: Any, b: Any) -> Any:
    if a.is_Number and b.is_Number:
        return b if compare.value(a, b) else a
    if a.is_Number:
        a, b = b, a
    other = compare(a, b)
    return Where(other if b.is_Number else Or(other, Unequal(b, b)), b, a)


FUNCTIONS: dict[str, tuple[Any, int]] = {  # by name: what makes it, and how many arguments it takes
    **{
        kind.__name__.lower(): (kind, 1)
        for kind in (Abs, Cos, Erf, Exp, Expm1, Log, Log1p, Sigmoid, Sin, Softplus, Sqrt, Tanh)
    },
    "max": (maximum, 2),
    "min": (minimum, 2),
    "relu": (lambda x: maximum(x, Integer(0)), 1),
    "where": (Where, 3),
}
STEPS = ("ceil", "floor", "heaviside", "round", "sign", "step", "trunc")  # whose slope is 0 or infinite
CONSTANTS = {"pi": number(math.pi)}


def evaluated(expression: Any, values: Mapping[str, float]) -> float:
    """The value of an expression in float64; NaN outside the domain of a part of it, or beyond float64."""
    try:
        return float(_evaluated(expression, values))
    except (ValueError, ZeroDivisionError, OverflowError, TypeError):  # a complex number is no float
        return math.nan


def _evaluated(expression: Any, values: Mapping[str, float]) -> Any:
    if expression.is_Symbol:
        return values[expression.name]
    if expression.is_Number:
        return float(expression)
    if isinstance(expression, Where):
        condition, a, b = expression.args
        return _evaluated(a if _evaluated(condition, values) else b, values)
    args = [_evaluated(arg, values) for arg in expression.args]
    return (OPERATIONS.get(type(expression)) or type(expression).value)(*args)


OPERATIONS: dict[Any, Callable[..., Any]] = {
    Add: lambda *terms: math.fsum(terms), Mul: lambda *factors: math.prod(factors), Pow: operator.pow,
}  # fmt: skip
