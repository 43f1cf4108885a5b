"""An expression's text, read by Python's own grammar, of which only a few kinds of node are let through."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sympy import Add, Integer, Mul, Pow, Rational, Symbol

from minet.core.errors import MinetError
from minet.core.expression import functions
from minet.core.expression.functions import CONSTANTS, FUNCTIONS, STEPS, number
from minet.core.naming import did_you_mean

LONGEST = 1000  # characters
MOST_BITS = 1100  # of a number: float64 ends at 2**1024
HIGHEST = 64  # whole exponent
DEEPEST = 20  # functions in functions: SymPy's way through them is recursive
AROUND = 40  # characters of a long text that an error shows on each side
COMPARISONS: dict[type[ast.cmpop], Any] = {
    ast.Lt: functions.Less, ast.LtE: functions.LessEqual, ast.Gt: functions.Greater,
    ast.GtE: functions.GreaterEqual, ast.Eq: functions.Equal, ast.NotEq: functions.Unequal,
}  # fmt: skip
SIGNS = "+ - * / and **"


def parsed(text: str, values: Mapping[str, Sequence[float]]) -> Any:
    """The SymPy expression that a text stands for, in ``x`` and parameters.

    Parameters
    ----------
    text : str
        Numbers, names, ``+ - * / **``, the functions of `FUNCTIONS`, and conditions in ``where``.
    values : mapping of str to sequence of float
        Of each parameter, by name, numbers for which what depends on parameters alone must have a value.

    Raises
    ------
    MinetError
        If the text is anything else, or has no value: with the place in the text.
    """
    if len(text) > LONGEST:
        raise MinetError(f"the expression has {len(text)} characters", f"at most {LONGEST} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that an integer cannot be called
            tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        at = error.offset - 1 if error.offset else len(text)
        raise MinetError(f"the expression does not parse: {error.msg}\n{pointed(text, at, at + 1)}") from None
    except (ValueError, MemoryError) as error:
        raise MinetError(f"the expression cannot be read: {error or 'too deeply nested'}") from None
    return _Reader(text, values).value(tree)


def pointed(text: str, start: int, end: int) -> str:
    """The text, or what of it is near, with carets under a part of it."""
    first, last = max(start - AROUND, 0), min(end, start + AROUND) + AROUND
    shown = f"{'...' if first else ''}{text[first:last]}{'...' if last < len(text) else ''}"
    before = start - first + (3 if first else 0)
    return f"    {shown}\n    {' ' * before}{'^' * max(min(end - start, AROUND), 1)}"


class _Reader:
    """Turns syntax into SymPy's objects, node by node; nothing is ever evaluated as Python."""

    def __init__(self, text: str, values: Mapping[str, Sequence[float]]) -> None:
        self.text = text
        self.values = values
        self.symbols: Mapping[str, Any] = CONSTANTS | {name: Symbol(name) for name in ("x", *values)}
        self.depth = 0  # of functions in functions
        self.branches = 0  # of where, around this node: the condition may keep parameters out of them

    def value(self, node: ast.expr) -> Any:
        """What a node stands for, if that is a number."""
        nests = not isinstance(node, (ast.BinOp, ast.UnaryOp)) or isinstance(node.op, ast.Pow)
        self.depth += nests
        if self.depth > DEEPEST:
            raise self._error(node, f"this is more than {DEEPEST} functions deep")
        found = self._finite(node, self._value(node))
        self.depth -= nests
        return found

    def _finite(self, node: ast.expr, found: Any) -> Any:
        """The same; an error if it depends on parameters alone and has no finite value for theirs."""
        names = sorted(symbol.name for symbol in found.free_symbols)
        if names and "x" not in names and not self.branches:
            for numbers in zip(*(self.values[name] for name in names), strict=False):
                at = dict(zip(names, numbers, strict=True))
                if not math.isfinite(functions.evaluated(found, at)):
                    where = ", ".join(f"{name} = {number:g}" for name, number in at.items())
                    raise self._error(node, f"this has no finite value at {where}")
        return found

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as given) if not isinstance(given, bool):
                return self._constant(node, given)
            case ast.Name(id=name):
                return self._named(node, name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self._power(node, self.value(left), self.value(right))
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._quotient(node, self.value(left), self.value(right))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._checked(node, Add(self.value(left), self.value(right)))
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self._checked(node, Add(self.value(left), -self.value(right)))
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return self._checked(node, Mul(self.value(left), self.value(right)))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(node, name, args)
            case ast.IfExp(test=test, body=body, orelse=other):
                return self._where(test, body, other)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                raise self._error(node, "a condition is not a number", "write where(condition, 1, 0)")
            case ast.BinOp(op=ast.BitXor()):
                raise self._error(node, "^ is not a power", "write **")
            case ast.BinOp(op=ast.Mod() | ast.FloorDiv()):
                raise self._error(node, "a remainder has no useful derivative", f"use {SIGNS}")
        raise self._error(node, "this is not part of expressions", f"use numbers, names, functions, {SIGNS}")

    def condition(self, node: ast.expr) -> Any:
        """What a node stands for, if that is true or false."""
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                values = [self.value(each) for each in (left, *others)]
                if any(type(op) not in COMPARISONS for op in ops):
                    raise self._error(node, "this comparison is not one of numbers", "use < <= > >= == !=")
                pairs = zip(ops, values, values[1:], strict=False)
                found = [COMPARISONS[type(op)](a, b) for op, a, b in pairs]
                return found[0] if len(found) == 1 else functions.And(*found)
            case ast.BoolOp(op=op, values=parts):
                joined = functions.And if isinstance(op, ast.And) else functions.Or
                return joined(*map(self.condition, parts))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return functions.Not(self.condition(operand))
        raise self._error(node, "this is not a condition", "such as x > 0, or 0 < x < 1, or x < 0 and b > 1")

    def _constant(self, node: ast.expr, given: float) -> Any:
        try:
            size = abs(float(given))
        except OverflowError:
            size = float("inf")
        if size == float("inf"):
            raise self._error(node, "this number is too large")
        return Integer(given) if isinstance(given, int) else number(given)

    def _named(self, node: ast.expr, name: str) -> Any:
        if name in self.symbols:
            return self.symbols[name]
        if name in FUNCTIONS:
            raise self._error(node, f"{name} is a function", f"write {name}(...)")
        usual = f"x is the input; give a parameter its value: {name}=1.0"
        raise self._error(node, f"{name!r} is not known", did_you_mean(name, [*self.symbols]) or usual)

    def _call(self, node: ast.Call, name: str, args: list[ast.expr]) -> Any:
        if name in STEPS:
            raise self._error(node.func, f"{name} cannot be differentiated", "its slope is 0, or infinite")
        if name not in FUNCTIONS:
            hint = did_you_mean(name, [*FUNCTIONS]) or f"there are {', '.join(sorted(FUNCTIONS))}"
            raise self._error(node.func, f"there is no function {name!r}", hint)
        make, count = FUNCTIONS[name]
        if len(args) != count:
            usage = "condition, a, b" if name == "where" else ", ".join("xy"[:count])
            raise self._error(node, f"{name} takes {count}, not {len(args)}", f"{name}({usage})")
        if name == "where":
            return self._where(*args)
        values = [self.value(each) for each in args]
        if hasattr(make, "value") and values[0].is_Number:
            return self._computed(node, lambda: make.value(float(values[0])))
        return self._checked(node, make(*values))

    def _where(self, test: ast.expr, *branches: ast.expr) -> Any:
        condition = self.condition(test)
        self.branches += 1
        values = [self.value(each) for each in branches]
        self.branches -= 1
        return functions.Where(condition, *values)

    def _quotient(self, node: ast.expr, a: Any, b: Any) -> Any:
        if b == 0:
            raise self._error(node, "this divides by 0")
        return self._checked(node, Mul(a, self._finite(node, functions.reciprocal(b))))

    def _power(self, node: ast.expr, a: Any, b: Any) -> Any:
        if a.is_Number and b.is_Number:
            return self._computed(node, lambda: float(a) ** float(b))
        if b.is_Number and abs(b) > HIGHEST:
            raise self._error(node, f"the exponent is above {HIGHEST}")
        if a.is_Number and a <= 0:
            raise self._error(node, f"a power of {a} has no derivative", "only one of a number above 0 has")
        if b.is_Integer:
            return self._checked(node, Pow(a, b) if b >= 0 else Pow(functions.reciprocal(a), -b))
        return functions.Power(a, b)

    def _computed(self, node: ast.expr, compute: Callable[[], float]) -> Any:
        """The value of a part that is only numbers."""
        try:
            found = compute()
        except (ValueError, ZeroDivisionError):
            found = float("nan")
        except OverflowError:
            raise self._error(node, "this number is too large") from None
        if not isinstance(found, float) or found != found:
            raise self._error(node, "this has no value: it is outside the function's domain")
        return number(found)

    def _checked(self, node: ast.expr, found: Any) -> Any:
        """The result, unless its numbers are beyond float64, as products of numbers may be."""
        for part in found.atoms(Rational):
            if max(abs(part.p), part.q).bit_length() > MOST_BITS:
                raise self._error(node, "a number in this is too large, or has too many digits")
        return found

    def _error(self, node: ast.expr, message: str, hint: str = "") -> MinetError:
        whole = self.text.encode()
        start, end = (len(whole[:at].decode()) for at in (node.col_offset, node.end_col_offset or 0))
        return MinetError(f"{message}:\n{pointed(self.text, start, end)}", hint)
