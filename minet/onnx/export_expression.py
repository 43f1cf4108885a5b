"""Elementwise's expression as ONNX nodes, from SymPy's objects; `functions` has their meaning."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import sympy

from minet.core.expression import functions
from minet.onnx.export_graph import Given, Graph, Value

NEAR = 0.5  # from 0, where expm1 and log1p in their plain form lose digits
OPERATORS = {
    functions.Abs: "Abs", functions.Cos: "Cos", functions.Erf: "Erf", functions.Exp: "Exp",
    functions.Log: "Log", functions.Sigmoid: "Sigmoid", functions.Sin: "Sin", functions.Softplus: "Softplus",
    functions.Sqrt: "Sqrt", functions.Tanh: "Tanh", functions.Power: "Pow", functions.Where: "Where",
    functions.Less: "Less", functions.LessEqual: "LessOrEqual", functions.Greater: "Greater",
    functions.GreaterEqual: "GreaterOrEqual", functions.Equal: "Equal", functions.Not: "Not",
    sympy.Pow: "Pow",
}  # fmt: skip
EXTREMES = {functions.LessEqual: "Max", functions.GreaterEqual: "Min"}
REPEATED: dict[Any, str] = {
    functions.And: "And", functions.Or: "Or", sympy.Add: "Add", sympy.Mul: "Mul",
}  # fmt: skip


def value(expression: Any, graph: Graph, symbols: dict[str, Value]) -> Value:
    """Add an expression's nodes, equal parts once; return the name of its value."""
    made: dict[Any, Given] = {}

    def of(e: Any) -> Given:
        if e not in made:
            made[e] = written(e)
        return made[e]

    def written(e: Any) -> Given:
        if e.is_Symbol:
            return symbols[e.name]
        if e.is_Number:
            return float(e)
        if isinstance(e, (sympy.Mul, sympy.Pow)):
            factors: Any = sympy.Mul.make_args(e)
            below = [factor for factor in factors if _divides(factor)]
            if below:
                above = [factor for factor in factors if not _divides(factor)]
                divisor = sympy.Mul(*(factor.base**-factor.exp for factor in below))
                return graph.add("Div", of(sympy.Mul(*above)), of(divisor))
        if isinstance(e, functions.Unequal):
            return graph.add("Not", of(functions.Equal(*e.args)))
        if isinstance(e, functions.Where) and (named := _named(*e.args)):
            name, terms, attributes = named
            return graph.add(name, *map(of, terms), **attributes)
        if special := SPECIAL.get(type(e)):
            return special(graph, of(e.args[0]))
        args = [of(arg) for arg in e.args]
        if operator := REPEATED.get(type(e)):
            return reduce(lambda a, b: graph.add(operator, a, b), args)
        return graph.add(OPERATORS[type(e)], *args)

    found = of(expression)
    assert isinstance(found, str)  # x occurs in it
    return found


def _divides(factor: Any) -> bool:
    return isinstance(factor, sympy.Pow) and bool(factor.exp.is_negative)


def _named(condition: Any, chosen: Any, other: Any) -> tuple[str, tuple[Any, ...], dict[str, float]] | None:
    """The operator that a Where is, which runtimes know and `load` reads, its inputs and attributes."""
    if condition == functions.Or(*condition.args[:1], functions.Unequal(chosen, chosen)):  # of parameters
        condition = condition.args[0]
    if condition.args == (other, chosen) and type(condition) in EXTREMES:
        return EXTREMES[type(condition)], (other, chosen), {}
    if condition == functions.Greater(chosen, 0) and (slope := other / chosen).is_Number and slope:
        return "LeakyRelu", (chosen,), {"alpha": float(slope)}
    return None


def expm1(graph: Graph, x: Given) -> Value:
    """``exp(x) - 1``; near 0 by ``2 t / (1 - t)`` with ``t = tanh(x / 2)``, in which nothing cancels."""
    t = graph.add("Tanh", graph.add("Mul", x, 0.5))
    small = graph.add("Div", graph.add("Add", t, t), graph.add("Sub", 1.0, t))
    return _near(graph, x, small, graph.add("Sub", graph.add("Exp", x), 1.0))


def log1p(graph: Graph, x: Given) -> Value:
    """``log(1 + x)``; near 0 by ``2 artanh(x / (2 + x))``."""
    t = graph.add("Atanh", graph.add("Div", x, graph.add("Add", x, 2.0)))
    return _near(graph, x, graph.add("Add", t, t), graph.add("Log", graph.add("Add", x, 1.0)))


def _near(graph: Graph, x: Given, small: Value, large: Value) -> Value:
    return graph.add("Where", graph.add("Less", graph.add("Abs", x), NEAR), small, large)


SPECIAL: dict[Any, Callable[[Graph, Given], Value]] = {functions.Expm1: expm1, functions.Log1p: log1p}
