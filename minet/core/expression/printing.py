"""SymPy expressions as code: what is common to languages, and what differs between them."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from string import Template
from typing import Any, TypeAlias

import sympy
from sympy import Add, Mul, Pow, Symbol, numbered_symbols

from minet.core.expression import functions
from minet.core.expression.functions import And, Condition, Not, Or, Power, Where

Code: TypeAlias = tuple[list[str], list[str]]
# How tightly operations bind, from loose to tight.
CHOICE, EITHER, BOTH, COMPARISON, SUM, PRODUCT, ATOM = range(7)
WRITTEN_OUT = 8  # highest power that is written as products
OPERATORS = {
    functions.Less: "<", functions.LessEqual: "<=", functions.Greater: ">",
    functions.GreaterEqual: ">=", functions.Equal: "==", functions.Unequal: "!=",
}  # fmt: skip


class Printer:
    """Mathematics as in an expression's text. Languages are subclasses.

    Parameters
    ----------
    names : dict of str to str
        What to write for a symbol, by its name; others are written as they are.
    """

    either, both, negated = " or ", " and ", "not "

    def __init__(self, names: dict[str, str] | None = None) -> None:
        self.names = names or {}
        self.used: set[str] = set()  # functions

    def __call__(self, expression: Any, least: int = CHOICE) -> str:
        """The expression's text, in parentheses if it binds less tightly than `least`."""
        text, binding = self._written(expression)
        return text if binding >= least else f"({text})"

    # -- what languages change ------------------------------------------------------------------------

    def number(self, value: float) -> str:
        """A number that is not negative."""
        short = float(f"{value:.15g}")  # instead of 0.49999999999999994, what was meant
        value = short if abs(short - value) <= 2 * math.ulp(value) else value
        return str(int(value)) if value == int(value) and value < 1e9 else repr(value)

    def function(self, name: str, args: list[str]) -> str:
        return f"{name}({', '.join(args)})"

    def power(self, base: Any, exponent: Any) -> tuple[str, int]:
        return f"{self(base, ATOM)}**{self(exponent, ATOM)}", PRODUCT

    def choice(self, condition: Any, a: Any, b: Any) -> tuple[str, int]:
        return f"{self(a, EITHER)} if {self(condition, EITHER)} else {self(b)}", CHOICE

    # -- common ---------------------------------------------------------------------------------------

    def _written(self, e: Any) -> tuple[str, int]:
        if isinstance(e, Symbol):
            return self.names.get(e.name, e.name), ATOM
        if isinstance(e, (Add, Mul)) or e.is_Number:
            return self._sum(e) if isinstance(e, Add) else self._product(e)
        if isinstance(e, Pow):
            return self._product(e) if e.exp.is_negative else self.power(e.base, e.exp)
        if isinstance(e, Power):
            return self.power(*e.args)
        if isinstance(e, Where):
            return self.choice(*e.args)
        if isinstance(e, Condition):
            return self._condition(e)
        self.used.add(name := type(e).__name__.lower())
        return self.function(name, [self(arg) for arg in e.args]), ATOM

    def _condition(self, e: Any) -> tuple[str, int]:
        if isinstance(e, Not):
            return f"{self.negated}({self(e.args[0])})", COMPARISON
        if isinstance(e, (And, Or)):
            word, binding = (self.both, BOTH) if isinstance(e, And) else (self.either, EITHER)
            return word.join(self(arg, binding + 1) for arg in e.args), binding
        a, b = (self(arg, SUM) for arg in e.args)
        return f"{a} {OPERATORS[type(e)]} {b}", COMPARISON

    def _sum(self, e: Any) -> tuple[str, int]:
        terms = sorted(e.as_ordered_terms(), key=_negative)  # a minus is no way to begin, if there is another
        text = self(terms[0], SUM)
        for term in terms[1:]:
            sign, term = ("-", -term) if _negative(term) else ("+", term)
            text += f" {sign} {self(term, PRODUCT)}"
        return text, SUM

    def _product(self, e: Any) -> tuple[str, int]:
        if _negative(e):
            return f"-{self(-e, PRODUCT)}", SUM
        coefficient, rest = e.as_coeff_Mul()
        above, below = [], []
        for factor in rest.as_ordered_factors():
            if isinstance(factor, Pow) and factor.exp.is_negative:
                below.append(factor.base**-factor.exp)
            elif factor != 1:
                above.append(factor)
        factors = [self(factor, PRODUCT) for factor in above]
        if coefficient != 1 or not above:
            factors.insert(0, self.number(float(coefficient)))
        text = " * ".join(factors)
        if not below:
            return text, ATOM if len(factors) == 1 and not above else PRODUCT
        divisor = Mul(*below)
        return f"{text} / {self(divisor, ATOM)}", PRODUCT


def _negative(e: Any) -> bool:
    return bool(e.as_coeff_Mul()[0] < 0)


def products(printer: Printer, base: Any, exponent: int) -> tuple[str, int]:
    """A whole power as products, in few multiplications once equal ones are computed once."""
    if exponent == 1:
        return printer._written(base)
    if exponent % 2:
        return f"{printer(base, PRODUCT)} * {_nested(printer, base, exponent - 1)}", PRODUCT
    half = _nested(printer, base, exponent // 2)
    return f"{half} * {half}", PRODUCT


def _nested(printer: Printer, base: Any, exponent: int) -> str:
    text, binding = products(printer, base, exponent)
    return text if binding == ATOM else f"({text})"


class Python(Printer):
    """For Numba: in a scalar of the array's type, called `real`."""

    def number(self, value: float) -> str:
        return f"real({super().number(value)})"  # Numba's own literals are float64

    def power(self, base: Any, exponent: Any) -> tuple[str, int]:
        if exponent.is_Integer and exponent <= WRITTEN_OUT:
            return products(self, base, int(exponent))
        whole = str(exponent) if exponent.is_Integer else self(exponent, ATOM)
        return f"{self(base, ATOM)} ** {whole}", PRODUCT


class Cuda(Printer):
    """For CUDA, in float."""

    either, both, negated = " || ", " && ", "!"

    def number(self, value: float) -> str:
        text = super().number(value)
        return f"{text}.0f" if text.isdigit() else f"{text}f"  # a quotient of two whole ones would be whole

    def function(self, name: str, args: list[str]) -> str:
        own = {"abs": "fabsf", "sigmoid": name, "softplus": name}
        return super().function(own.get(name, f"{name}f"), args)

    def power(self, base: Any, exponent: Any) -> tuple[str, int]:
        if exponent.is_Integer and exponent <= WRITTEN_OUT:
            return products(self, base, int(exponent))
        return f"powf({self(base)}, {self(exponent)})", ATOM

    def choice(self, condition: Any, a: Any, b: Any) -> tuple[str, int]:
        return f"{self(condition, EITHER)} ? {self(a, EITHER)} : {self(b)}", CHOICE


def statements(printer: Printer, expressions: Sequence[Any], declare: tuple[str, str], end: str) -> Code:
    """Lines that compute what expressions have in common, and what remains of each.

    `declare` goes before the name of a number and that of a condition, `end` after a line.
    """
    parts, rest = shared_parts(expressions)
    kinds = [declare[isinstance(part, Condition)] for _, part in parts]
    lines = [f"{kind}{name} = {printer(part)}{end}" for kind, (name, part) in zip(kinds, parts, strict=True)]
    return lines, [printer(expression) for expression in rest]


def shared_parts(expressions: Sequence[Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """What expressions have in common, each part with the symbol that stands for it, and what remains."""
    # A sum that is raised to a power is repeated in products: listing it makes it a common part.
    bases = {
        part.base: None
        for expression in expressions
        for part in sympy.preorder_traversal(expression)
        if isinstance(part, Pow) and abs(part.exp) > 1 and not part.base.is_Symbol
    }
    cse: Any = sympy.cse
    parts, rest = cse([*expressions, *bases], symbols=numbered_symbols("t", start=1))
    return parts, rest[: len(expressions)]


def filled(template: str, **fields: Any) -> str:
    """A template with each ``$name`` replaced, one alone on a line by lines, as far to the right."""
    lines = []
    for line in template.splitlines():
        alone = re.fullmatch(r"( *)\$(\w+)", line)
        if alone and isinstance(fields[alone[2]], list):
            lines += [f"{alone[1]}{each}".rstrip() for each in fields[alone[2]]]
        else:
            lines.append(Template(line).substitute(fields))
    return "\n".join(lines) + "\n"


def title(formula: Any) -> list[str]:
    """The formulas of a file's header."""
    write = Printer()
    sums = [f"d{name} = sum of {write(grad, SUM)}" for name, grad in formula.grads.items()]
    lines = [f"y = {write(formula.y)}", f"dx = {write(formula.dx)}", *sums]
    return [part for line in lines for part in textwrap.wrap(line, 106, subsequent_indent="    ")]
