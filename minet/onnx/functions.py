"""ONNX's operators that work element by element, as Elementwise.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minet.layers import Elementwise
from minet.onnx.graph import Leaf
from minet.onnx.node import Node, short


def affine(node: Node) -> list[Leaf]:
    """Add, Mul, Sub and Div of an activation and a constant: one number, or one for each channel."""
    first = node.operands == [0]
    c = node.per_channel(node.weights(1 if first else 0))
    if node.op == "Div":
        if not first:
            raise node.unmet("divides by an activation")
        with np.errstate(all="ignore"):
            c = np.float32(1) / c
        if not np.isfinite(c).all():
            raise node.unmet("divides by 0")
    if node.op in ("Mul", "Div"):
        return _per_channel(node, "a * x", a=c)
    if node.op == "Add" or first:
        return _per_channel(node, "x + b", b=-c if node.op == "Sub" else c)
    return _per_channel(node, "b - x", b=c)


def _per_channel(node: Node, expression: str, **values: np.ndarray) -> list[Leaf]:
    C = node.x.shape[0]
    (name, value), first = next(iter(values.items())), {"a": 1.0, "b": 0.0}
    if value.size == 1 and C > 1:
        return node.leaf(Elementwise(expression, **{name: first[name]}, shared=True), **values)
    return node.leaf(Elementwise(expression, **{name: first[name]}), **values)


def clip(node: Node) -> list[Leaf]:
    low = node.number(1, node.attribute("min", -math.inf))
    high = node.number(2, node.attribute("max", math.inf))
    return _between(node, low, high)


def extreme(node: Node) -> list[Leaf]:
    """Max and Min of an activation and one number."""
    if node.has(2):
        raise node.unmet("of more than two")
    bound = node.number(1 - node.operands[0], math.nan)
    return _between(node, *((bound, math.inf) if node.op == "Max" else (-math.inf, bound)))


def _between(node: Node, low: float, high: float) -> list[Leaf]:
    if not low <= high:
        raise node.unmet(f"from {low} to {high}")
    bounded = "x" if low < -3.4e38 else f"max(x, {low!r})"
    if bounded == "x" and high > 3.4e38:
        return []
    return node.leaf(Elementwise(bounded if high > 3.4e38 else f"min({bounded}, {high!r})"))


def power(node: Node) -> list[Leaf]:
    if node.operands != [0]:
        raise node.unmet("only what is raised to a power may be an activation")
    exponent = node.number(1, math.nan)
    if not math.isfinite(exponent):
        raise node.unmet(f"raises to the power of {exponent}")
    return node.leaf(Elementwise(f"x ** {int(exponent) if exponent.is_integer() else exponent}"))


def _function(template: str, **defaults: float) -> Callable[[Node], list[Leaf]]:
    """An operator that is a function of each element, with attributes that are numbers in it."""

    def translate(node: Node) -> list[Leaf]:
        numbers = {name: node.attribute(name, short(default)) for name, default in defaults.items()}
        return node.leaf(Elementwise(template.format(**{name: repr(n) for name, n in numbers.items()})))

    return translate


def gelu(node: Node) -> list[Leaf]:
    if node.attribute("approximate", "none") == "tanh":
        cubic = "x + 0.044715 * x**3"
        return node.leaf(Elementwise(f"0.5 * x * (1 + tanh(sqrt(2 / pi) * ({cubic})))"))
    return node.leaf(Elementwise("0.5 * x * (1 + erf(x / sqrt(2)))"))


FUNCTIONS: dict[str, Callable[[Node], list[Leaf]]] = {
    "Abs": _function("abs(x)"),
    "Celu": _function("where(x > 0, x, {alpha} * expm1(x / {alpha}))", alpha=1.0),
    "Cos": _function("cos(x)"),
    "Elu": _function("where(x > 0, x, {alpha} * expm1(x))", alpha=1.0),
    "Erf": _function("erf(x)"),
    "Exp": _function("exp(x)"),
    "HardSigmoid": _function("max(0, min(1, {alpha} * x + {beta}))", alpha=0.2, beta=0.5),
    "HardSwish": _function("x * max(0, min(1, x / 6 + 0.5))"),
    "LeakyRelu": _function("where(x > 0, x, {alpha} * x)", alpha=0.01),
    "Log": _function("log(x)"),
    "Mish": _function("x * tanh(softplus(x))"),
    "Neg": _function("-x"),
    "Reciprocal": _function("1 / x"),
    "Selu": _function(
        "{gamma} * where(x > 0, x, {alpha} * expm1(x))",
        alpha=1.67326319217681884765625,
        gamma=1.05070102214813232421875,
    ),
    "Sigmoid": _function("sigmoid(x)"),
    "Sin": _function("sin(x)"),
    "Softplus": _function("softplus(x)"),
    "Softsign": _function("x / (1 + abs(x))"),
    "Sqrt": _function("sqrt(x)"),
    "Swish": _function("x * sigmoid({alpha} * x)", alpha=1.0),
    "Tanh": _function("tanh(x)"),
    "ThresholdedRelu": _function("where(x > {alpha}, x, 0)", alpha=1.0),
    "Add": affine,
    "Clip": clip,
    "Div": affine,
    "Gelu": gelu,
    "Max": extreme,
    "Min": extreme,
    "Mul": affine,
    "Pow": power,
    "Sub": affine,
}
