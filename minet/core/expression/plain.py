"""An expression in NumPy: what the kit holds the loops against, and a start for a layer of one's own."""

from __future__ import annotations

from functools import cache
from typing import Any

from minet.core.expression import Formula
from minet.core.expression.functions import And, Or
from minet.core.expression.printing import ATOM, PRODUCT, Printer, filled, statements, title

TEMPLATE = '''\
"""In NumPy:

$title

Source: written by minet for "$text".
"""

$library
import numpy as np

$helpers

def fprop(x$params):
    """y, alone in a tuple; parameters broadcast against x."""
    $parts_of_y
    return ($y,)


def bprop(x, dy$params):
    """dx, and for each parameter what is summed to its gradient."""
    $parts_of_dx
    return $dx
'''
HELPERS = {
    "erf": ["def erf(x):", "    return np.vectorize(math.erf, otypes=[x.dtype])(x)"],
    "sigmoid": ["def sigmoid(x):", "    return 0.5 + 0.5 * np.tanh(0.5 * x)"],
    "softplus": ["def softplus(x):", "    return np.logaddexp(x, 0)"],
}


class NumPy(Printer):
    """For arrays; both branches of a choice are computed."""

    either, both, negated = " | ", " & ", "~"

    def function(self, name: str, args: list[str]) -> str:
        return super().function(name if name in HELPERS else f"np.{name}", args)

    def choice(self, condition: Any, a: Any, b: Any) -> tuple[str, int]:
        return f"np.where({self(condition)}, {self(a)}, {self(b)})", ATOM

    def _condition(self, e: Any) -> tuple[str, int]:
        if not isinstance(e, (And, Or)):
            return super()._condition(e)
        word = self.both if isinstance(e, And) else self.either  # these bind more tightly than comparisons
        return word.join(f"({self(arg)})" for arg in e.args), PRODUCT


def source(formula: Formula) -> str:
    """The text of two functions, ``fprop(x, ...)`` and ``bprop(x, dy, ...)``."""
    printer = NumPy({name: f"{name}_c" for name in formula.grads})
    parts_of_y, [y] = statements(printer, [formula.y], ("", ""), "")
    parts_of_dx, results = statements(printer, [formula.dx, *formula.grads.values()], ("", ""), "")
    return filled(
        TEMPLATE,
        title=title(formula),
        text=formula.text,
        library=["import math", ""] if "erf" in printer.used else [],
        helpers=[line for name in sorted(printer.used & HELPERS.keys()) for line in ["", *HELPERS[name], ""]],
        params="".join(f", {name}_c" for name in formula.grads),
        parts_of_y=parts_of_y,
        y=y,
        parts_of_dx=parts_of_dx,
        dx=", ".join(results) if formula.grads else f"({results[0]},)",
    )


@cache
def functions(formula: Formula) -> dict[str, Any]:
    """The functions of `source`, by name."""
    space: dict[str, Any] = {}
    exec(compile(source(formula), f"<NumPy for {formula.text!r}>", "exec"), space)
    return space
