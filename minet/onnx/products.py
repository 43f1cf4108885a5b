"""Products of functions of one activation, as Elementwise: ``x * sigmoid(x)`` is a Sigmoid and a Mul in ONNX.

So are SiLU, Mish, HardSwish and GELU in files of older opsets; quotients and differences too. Other products
of activations have no layer.
"""

from __future__ import annotations

import ast

from minet.layers import Elementwise, ReLU
from minet.onnx.graph import Item, Leaf
from minet.onnx.node import short

OF_TWO = {"Div": "a / b", "Mul": "a * b", "Sub": "a - b"}
LONGEST = 200  # letters of an expression


class Products:
    """What each tensor is as a function of the one that its node reads."""

    def __init__(self) -> None:
        self._from: dict[str, tuple[str, str]] = {}

    def note(self, start: str, end: str, items: list[Item]) -> None:
        """Remember a node's layers, if they are a function without parameters of channels."""
        if not items:
            self._from[end] = start, "x"
        elif len(items) == 1 and isinstance(leaf := items[0], Leaf) and (found := _expression(leaf)):
            self._from[end] = start, found

    def note_sum(self, a: str, b: str, end: str) -> None:
        """Remember a sum of two, if they are functions of one tensor: it may be in a product."""
        if found := self._together("a + b", a, b):
            self._from[end] = found

    def layer(self, op: str, a: str, b: str) -> tuple[str, Elementwise] | None:
        """The nearest tensor of which both are functions, and their product or such as a layer after it."""
        found = self._together(OF_TWO[op], a, b)
        return (found[0], Elementwise(found[1])) if found else None

    def _together(self, template: str, a: str, b: str) -> tuple[str, str] | None:
        """The nearest tensor of which both are functions, and what the template makes of them."""
        others = self._before(b)
        nearest = next((tensor for tensor in self._before(a) if tensor in others), None)
        if nearest is None or not (of_a := self._since(nearest, a)) or not (of_b := self._since(nearest, b)):
            return None
        return nearest, _put_in(template, a=of_a, b=of_b)

    def _before(self, tensor: str) -> list[str]:
        """A tensor, and those that it is a function of, as far as an expression may reach."""
        found = [tensor]
        while found[-1] in self._from and len(found) < LONGEST:
            found.append(self._from[found[-1]][0])
        return found

    def _since(self, start: str, tensor: str) -> str:
        """A tensor as a function of one before it; empty if it is too long."""
        expression = "x"
        while tensor != start and len(expression) < LONGEST:
            tensor, inner = self._from[tensor]
            expression = _put_in(expression, x=inner)
        return expression if len(expression) < LONGEST else ""


def _expression(leaf: Leaf) -> str:
    """A layer as an expression in x; empty if it has parameters for each channel, or is none of these."""
    if isinstance(leaf.layer, ReLU):
        return "relu(x)"
    if not isinstance(leaf.layer, Elementwise) or any(array.size > 1 for array in leaf.arrays.values()):
        return ""
    numbers = {name: repr(short(array.item())) for name, array in leaf.arrays.items()}
    return _put_in(str(leaf.layer._call[0][0]), **numbers)


def _put_in(expression: str, **values: str) -> str:
    """An expression with others in place of its names."""

    class Names(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return ast.parse(values[node.id], mode="eval").body if node.id in values else node

    return ast.unparse(Names().visit(ast.parse(expression, mode="eval")))
