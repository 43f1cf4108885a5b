"""Windows as ONNX's operators take them: on an input of known size, every pad is a number."""

from __future__ import annotations

import numpy as np

from minet.core.layer import Shape
from minet.core.window import Pair, Window
from minet.onnx.export_graph import Graph, Value


def pads(window: Window, in_shape: Shape, out_shape: Shape) -> list[int]:
    """ONNX's pads: top, left, bottom, right, just enough for the last windows.

    So `ceil` needs no attribute, whose rule differs from opset to opset.
    """
    sizes = zip(in_shape[1:], out_shape[1:], window.stride, window.spans, window.pad, strict=True)
    behind = [max(0, (out - 1) * stride + span - size - pad) for size, out, stride, span, pad in sizes]
    return [*window.pad, *behind]


def inside(window: Window, axis: int, size: int, outputs: int, beyond: Pair = (0, 0)) -> np.ndarray:
    """Which taps of each window lie in the image, ``(outputs, window)``, along an axis (0 vertical).

    `beyond` says how many pixels before and behind the image count as part of it.
    """
    stride, pad, dilation = window.stride[axis], window.pad[axis], window.dilation[axis]
    at = np.arange(outputs)[:, None] * stride - pad + np.arange(window.size[axis]) * dilation
    return (at >= -beyond[0]) & (at < size + beyond[1])


def pool(op: str, graph: Graph, x: Value, window: Window, shapes: tuple[Shape, Shape], **more: int) -> Value:
    """Add a pooling operator."""
    geometry = {"kernel_shape": window.size, "strides": window.stride, "pads": pads(window, *shapes)}
    return graph.add(op, x, **geometry, **more)


def depthwise(graph: Graph, x: Value, w: np.ndarray, window: Window, shapes: tuple[Shape, Shape]) -> Value:
    """Add a convolution of each map with J kernels of its own, w ``(C, J, R, S)``; its maps are (C, J)."""
    C, J = w.shape[:2]
    weights = graph.constant(w.reshape(C * J, 1, *window.size), "w")
    geometry = {"strides": window.stride, "pads": pads(window, *shapes), "dilations": window.dilation}
    return graph.add("Conv", x, weights, kernel_shape=window.size, group=C, **geometry)


def scaled(graph: Graph, x: Value, *factors: np.ndarray) -> Value:
    """x times factors ``(C or 1, H or 1, W or 1)``; those that are 1 everywhere are left out."""
    values = [graph.constant(a, "scale") for a in factors if not np.all(a == 1)]
    if not values:
        return x
    # The product of two is a constant as well: runtimes compute it once.
    return graph.add("Mul", x, values[0] if len(values) == 1 else graph.add("Mul", *values))
