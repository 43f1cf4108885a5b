"""The pools as ONNX nodes; `export_layers` says what such a function takes and returns."""

from __future__ import annotations

import numpy as np

from minet.core.layer import Shape
from minet.core.window import Window
from minet.layers.avg_pool import AvgPool
from minet.layers.max_pool import MaxPool
from minet.layers.stochastic_pool import StochasticPool
from minet.onnx.export_graph import Graph, Value
from minet.onnx.export_layers import translated
from minet.onnx.export_window import depthwise, inside, pads, pool, scaled


@translated.register
def _(layer: MaxPool, graph: Graph, x: Value) -> Value:
    window, around = layer.window, pads(layer.window, *layer.bound_shapes)
    if any(pad >= size for pad, size in zip(around, window.size * 2, strict=True)):
        # A spread window may have more padding than taps, which runtimes refuse.
        top, left, bottom, right = around
        x = graph.add("Pad", x, [0, 0, top, left, 0, 0, bottom, right], -np.inf, mode="constant")
        around = [0, 0, 0, 0]
    geometry = {"kernel_shape": window.size, "strides": window.stride, "dilations": window.dilation}
    return graph.add("MaxPool", x, **geometry, pads=around)


@translated.register
def _(layer: AvgPool, graph: Graph, x: Value) -> Value:
    (_, H, W), (_, P, Q) = layer.bound_shapes
    if layer.out and (H % P or W % Q):  # windows differ in size
        down, across = means(H, P), means(W, Q)
        return graph.add("MatMul", down, graph.add("MatMul", x, np.ascontiguousarray(across.T)))
    if (P, Q) == (1, 1) and not layer.window:
        return graph.add("GlobalAveragePool", x)
    if layer.window is None:
        window = Window((H // P, W // Q), (H // P, W // Q), (0, 0))
        return pool("AveragePool", graph, x, window, layer.bound_shapes)
    if layer.window.dilation == (1, 1) and not (layer.count_pad and layer.window.ceil):
        counted = int(layer.count_pad)
        return pool("AveragePool", graph, x, layer.window, layer.bound_shapes, count_include_pad=counted)
    beyond = zip(layer.window.pad, layer.window.behind, strict=True) if layer.count_pad else [(0, 0)] * 2
    taps = [
        inside(layer.window, axis, (H, W)[axis], (P, Q)[axis], counted).sum(1)
        for axis, counted in enumerate(beyond)
    ]
    y = window_sum(graph, x, layer.window, layer.bound_shapes)
    return scaled(graph, y, 1 / taps[0][None, :, None], 1 / taps[1][None, None])


def means(size: int, outputs: int) -> np.ndarray:
    """The matrix ``(outputs, size)`` of AvgPool's `out`: p*H // P up to (p+1)*H / P, rounded up."""
    at, p = np.arange(size), np.arange(outputs)[:, None]
    taps = (at >= p * size // outputs) & (at < -(-(p + 1) * size // outputs))
    return taps / taps.sum(1, keepdims=True)


def window_sum(graph: Graph, x: Value, window: Window, shapes: tuple[Shape, Shape]) -> Value:
    """Add the sums of windows, in which padding counts as 0."""
    return depthwise(graph, x, np.ones((shapes[0][0], 1, *window.size)), window, shapes)


@translated.register
def _(layer: StochasticPool, graph: Graph, x: Value) -> Value:
    a = graph.add("Relu", x)
    total = window_sum(graph, a, layer.window, layer.bound_shapes)
    squares = window_sum(graph, graph.add("Mul", a, a), layer.window, layer.bound_shapes)
    none = graph.add("Equal", total, 0.0)
    return graph.add("Where", none, 0.0, graph.add("Div", squares, total))
