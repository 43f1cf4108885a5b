"""Each layer of minet as ONNX nodes: one function for each class, found by the type of its first argument.

A function takes the layer, the `Graph` to add to, and the name of x; it returns the name of y. What it adds
is the layer in evaluation. The pools are in ``export_pools.py``. A class that is not here brings a method
``to_onnx(graph, x)``, which comes first even for a class derived from one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

from minet.core.containers import Concat, Sequential, Sum
from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.layers.batch_norm import BatchNorm
from minet.layers.conv import Conv
from minet.layers.dropout import Dropout
from minet.layers.elementwise import Elementwise
from minet.layers.identity import Identity
from minet.layers.linear import Linear
from minet.layers.lrn import LRN
from minet.layers.prelu import PReLU
from minet.layers.relu import ReLU
from minet.layers.softmax import Softmax
from minet.onnx.export_graph import Graph, Value
from minet.onnx.export_window import pads

CONTAINERS = (Sequential, Concat, Sum)
# These take (N, C) as well: what maps of one pixel are behind a Linear.
FLAT_TOO = (*CONTAINERS, Linear, BatchNorm, Dropout, Elementwise, Identity, PReLU, ReLU, Softmax)


def own(layer: Layer) -> Any:
    """The layer's method `to_onnx`; None if it has none."""
    return getattr(layer, "to_onnx", None)


def untranslated(layer: Layer) -> list[Layer]:
    """The layers, of this one and those inside it, that have no ONNX form."""
    if own(layer):
        return []
    if isinstance(layer, CONTAINERS):
        return [one for child in layer.children for one in untranslated(child)]
    known = translated.dispatch(type(layer)) is not translated.dispatch(object)
    return [] if known and not layer.children else [layer]


def translate(layer: Layer, graph: Graph, x: Value) -> Value:
    """Add a layer's nodes, and those of all layers inside it; return the name of y."""
    with graph.of(layer):
        if method := own(layer):
            x = graph.maps(x)
            y = called(layer, method, graph, x)
        else:
            x = x if isinstance(layer, FLAT_TOO) else graph.maps(x)
            y = translated(layer, graph, x)
    if method or not isinstance(layer, CONTAINERS):
        graph.made[layer] = x, y
    return y


def called(layer: Layer, method: Callable[[Graph, Value], Value], graph: Graph, x: Value) -> Value:
    """What a layer's own `to_onnx` returns; its mistakes are errors of the layer."""
    try:
        y = method(graph, x)
    except MinetError:
        raise
    except Exception as error:
        raise layer.error(f"to_onnx failed: {type(error).__name__}: {error}") from error
    if not isinstance(y, str):
        raise layer.error(f"to_onnx returned {y!r:.60}, not the name of a value", "return graph.add(...)")
    return y


def like(graph: Graph, x: Value, y: Value) -> Value:
    """y, which has as many axes as x."""
    return graph.now_flat(y) if graph.is_flat(x) else y


@singledispatch
def translated(layer: Any, graph: Graph, x: Value) -> Value:
    """Add the nodes of a layer of this type."""
    raise layer.error("has no ONNX form")


@translated.register
def _(layer: Sequential, graph: Graph, x: Value) -> Value:
    for child in layer.layers:
        x = translate(child, graph, x)
    return x


def branches(layer: Concat | Sum, graph: Graph, x: Value) -> list[Value]:
    """The outputs of a container's branches, all flat or all maps."""
    ys = [translate(child, graph, x) for child in layer.layers]
    return ys if all(map(graph.is_flat, ys)) else [graph.maps(y) for y in ys]


@translated.register
def _(layer: Concat, graph: Graph, x: Value) -> Value:
    ys = branches(layer, graph, x)
    return like(graph, ys[0], graph.add("Concat", *ys, axis=1)) if len(ys) > 1 else ys[0]


@translated.register
def _(layer: Sum, graph: Graph, x: Value) -> Value:
    y, *others = branches(layer, graph, x)
    for other in others:  # Sum itself may add in any order
        y = like(graph, y, graph.add("Add", y, other))
    return y


@translated.register
def _(layer: Conv, graph: Graph, x: Value) -> Value:
    shapes = layer.bound_shapes
    geometry = {
        "kernel_shape": layer.window.size, "strides": layer.window.stride, "dilations": layer.window.dilation,
        "pads": pads(layer.window, *shapes), "group": layer.groups,
    }  # fmt: skip
    return graph.add("Conv", x, *(graph.param(name) for name in layer.p), **geometry)


@translated.register
def _(layer: Linear, graph: Graph, x: Value) -> Value:
    params = [graph.param(name) for name in layer.p]
    return graph.now_flat(graph.add("Gemm", graph.flat(x), *params, transB=1))


@translated.register
def _(layer: BatchNorm, graph: Graph, x: Value) -> Value:
    names = ("gamma", "shift", "running_mean", "running_var")
    params = [graph.param(name) for name in names]
    return like(graph, x, graph.add("BatchNormalization", x, *params, epsilon=layer.eps))


@translated.register
def _(layer: ReLU, graph: Graph, x: Value) -> Value:
    return like(graph, x, graph.add("Relu", x))


@translated.register
def _(layer: Softmax, graph: Graph, x: Value) -> Value:
    return like(graph, x, graph.add("Softmax", x, axis=1))


@translated.register
def _(layer: PReLU, graph: Graph, x: Value) -> Value:
    return like(graph, x, graph.add("PRelu", x, graph.by_channel("a", x)))


@translated.register(Dropout)
@translated.register(Identity)
def _(layer: Layer, graph: Graph, x: Value) -> Value:
    return x


@translated.register
def _(layer: LRN, graph: Graph, x: Value) -> Value:
    if layer.size % 2:
        numbers = {"size": layer.size, "alpha": layer.alpha, "beta": layer.beta, "bias": layer.k}
        return graph.add("LRN", x, **numbers)
    # Of an even size ONNX has one more map behind, minet before. So the means along the maps are a pool's.
    before = layer.size // 2
    rows = graph.add("Reshape", graph.add("Mul", x, x), [0, 1, layer.bound_shapes[0][0], -1])
    window = {"kernel_shape": (layer.size, 1), "pads": (before, 0, layer.size - 1 - before, 0)}
    means = graph.add("AveragePool", rows, count_include_pad=1, **window)
    means = graph.add("Reshape", means, [0, *layer.bound_shapes[0]])
    s = graph.add("Add", graph.add("Mul", means, layer.alpha), layer.k)
    return graph.add("Mul", x, graph.add("Pow", s, -layer.beta))


@translated.register
def _(layer: Elementwise, graph: Graph, x: Value) -> Value:
    from minet.onnx.export_expression import value

    symbols = {"x": x} | {name: graph.by_channel(name, x) for name in layer.p}
    return like(graph, x, value(layer.formula.y, graph, symbols))
