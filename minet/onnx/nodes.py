"""ONNX's operators as layers: a function for each, by its name.

It gets a `Node`, returns what takes its place, a list of `Leaf`, and sets `node.made`, its output. It
raises what says why it cannot. Joins of several activations are in `load_net.py`.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minet.layers import (
    LRN,
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    Linear,
    MaxPool,
    PReLU,
    ReLU,
    Softmax,
)
from minet.onnx.functions import FUNCTIONS
from minet.onnx.graph import Leaf
from minet.onnx.node import NO_PADS, Node
from minet.onnx.shapes import SHAPES


def _window(node: Node, size: list[int]) -> dict[str, Any]:
    """The settings of a window: stride, pad, dilation; of pairs that are alike one number."""
    pads = node.x.pads
    strides, steps = node.whole("strides", [1, 1]), node.whole("dilations", [1, 1])
    given, auto = node.whole("pads", NO_PADS), node.attribute("auto_pad", "NOTSET")
    if not len(size) == len(strides) == len(steps) == 2 == len(given) // 2:
        raise node.unmet("its window must have two axes")
    if auto != "NOTSET" and any(given):
        raise node.unmet(f"has pads and auto_pad={auto}")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        if any(pads):
            raise node.unmet(f"auto_pad={auto} after a Pad")
        given = _same(node.image()[1:], size, strides, steps, auto == "SAME_LOWER")
    elif auto not in ("VALID", "NOTSET"):
        raise node.unmet(f"auto_pad={auto} is not known")
    top, left, bottom, right = (a + b for a, b in zip(given, pads, strict=True))
    pad = ((top, bottom), (left, right)) if (top, left) != (bottom, right) else one_or_two((top, left))
    return {
        "window": one_or_two(size), "stride": one_or_two(strides), "pad": pad, "dilation": one_or_two(steps),
    }  # fmt: skip


def _same(image: Any, size: list[int], strides: list[int], steps: list[int], lower: bool) -> list[int]:
    """The pads with which there are as many windows as strides in the image."""
    if min(strides) < 1:
        return [0] * 4  # which the layer refuses
    total = [
        max(0, (-(-length // s) - 1) * s + d * (r - 1) + 1 - length)
        for length, r, s, d in zip(image, size, strides, steps, strict=True)
    ]
    less, more = [t // 2 for t in total], [-(-t // 2) for t in total]
    return more + less if lower else less + more


def one_or_two(pair: Any) -> Any:
    """A pair as the user would type it."""
    return pair[0] if pair[0] == pair[1] else tuple(pair)


def usual(cls: type, **settings: Any) -> dict[str, Any]:
    """Settings without those that are the layer's own; a pool's own stride is its window."""
    own = {name: p.default for name, p in inspect.signature(cls).parameters.items()}
    if own.get("stride", 0) is None and settings.get("stride") == settings["window"]:
        del settings["stride"]
    return {name: value for name, value in settings.items() if value != own[name]}


def conv(node: Node) -> list[Leaf]:
    w, C = node.weights(1), node.image()[0]
    groups = node.attribute("group", 1)
    if (
        w.ndim != 4
        or groups < 1
        or w.shape[1] * groups != C
        or list(w.shape[2:]) != node.whole("kernel_shape", w.shape[2:])
    ):
        raise node.unmet(f"weights {w.shape} in {groups} groups do not fit {C} channels")
    if node.x.lowest:
        raise node.unmet("a Pad before it that is not of zeros")
    settings = _window(node, list(w.shape[2:]))
    arrays = {"w": w} | ({"b": node.weights(2)} if node.has(2) else {})
    made = usual(Conv, **settings, groups=groups, bias=node.has(2))
    return node.leaf(Conv(len(w), made.pop("window"), **made), **arrays)


def max_pool(node: Node) -> list[Leaf]:
    node.image()
    node.attribute("storage_order", 0)  # of the indices, a second output
    ceil, window = bool(node.attribute("ceil_mode", 0)), _window(node, node.whole("kernel_shape"))
    # Zeros around what is not below 0 are no larger than the maxima.
    rectified = node.x.rectified and window["dilation"] == 1
    if node.x.pads != NO_PADS and (ceil or not (node.x.lowest or rectified)):
        raise node.unmet("a Pad before it: it takes over those of -inf or after a Relu, without ceil_mode")
    made = usual(MaxPool, **window, ceil=ceil)
    return node.leaf(MaxPool(made.pop("window"), **made))


def average_pool(node: Node) -> list[Leaf]:
    node.image()
    ceil, counted = bool(node.attribute("ceil_mode", 0)), bool(node.attribute("count_include_pad", 0))
    if node.x.pads != NO_PADS:
        if ceil or node.x.lowest or (any(node.whole("pads", NO_PADS)) and not counted):
            raise node.unmet("a Pad before it: it takes over zeros, if all pads count, without ceil_mode")
        counted = True
    made = usual(AvgPool, **_window(node, node.whole("kernel_shape")), ceil=ceil, count_pad=counted)
    if counted and "pad" not in made:
        del made["count_pad"]  # there is none
    return node.leaf(AvgPool(made.pop("window"), **made))


def global_average_pool(node: Node) -> list[Leaf]:
    node.image()
    return node.leaf(AvgPool())


def global_max_pool(node: Node) -> list[Leaf]:
    return node.leaf(MaxPool(one_or_two(node.image()[1:])))


def reduce_mean(node: Node) -> list[Leaf]:
    node.image()
    axes = node.listed("axes", 1) or []
    if sorted(axis % 4 for axis in axes) != [2, 3] or node.attribute("noop_with_empty_axes", 0):
        raise node.unmet(f"the mean over axes {axes}; minet's AvgPool() is one over H and W")
    flat = not node.attribute("keepdims", 1)
    leaves = node.leaf(AvgPool())
    node.made = node.made._replace(flat=flat)
    return leaves


def lrn(node: Node) -> list[Leaf]:
    node.channels()
    size = node.attribute("size", 0)
    if size % 2 == 0:
        raise node.unmet(f"size={size}: ONNX's window has one map more behind, minet's before")
    names = {"alpha": ("alpha", 1e-4), "beta": ("beta", 0.75), "k": ("bias", 1.0)}
    values = {name: node.attribute(*theirs) for name, theirs in names.items()}
    return node.leaf(LRN(**usual(LRN, size=size, **values)))


def batch_normalization(node: Node) -> list[Leaf]:
    C = node.channels()
    if node.attribute("training_mode", 0) or not node.attribute("spatial", 1):
        raise node.unmet("it computes in training mode, or for each pixel")
    momentum, eps = node.attribute("momentum", 0.9), node.attribute("epsilon", 1e-5)
    names = ("gamma", "shift", "running_mean", "running_var")
    arrays = {name: node.weights(i) for i, name in enumerate(names, 1)}
    if any(array.shape != (C,) for array in arrays.values()):
        raise node.unmet(f"needs {C} numbers of each kind, one for each channel")
    # A momentum outside minet's range means nothing in evaluation.
    settings = usual(BatchNorm, momentum=momentum if 0 <= momentum < 1 else 0.9, eps=eps)
    return node.leaf(BatchNorm(**settings), **arrays)


def relu(node: Node) -> list[Leaf]:
    leaves = node.leaf(ReLU())
    node.made = node.made._replace(rectified=True)
    return leaves


def p_relu(node: Node) -> list[Leaf]:
    a = node.per_channel(node.weights(1))
    return node.leaf(PReLU(shared=True) if a.size == 1 else PReLU(), a=a)


def dropout(node: Node) -> list[Leaf]:
    rate = node.number(1, node.attribute("ratio", 0.5))
    node.attribute("seed")
    if node.has(2) and node.constant(2).any():
        raise node.unmet("it drops in evaluation too")
    return node.leaf(Dropout(rate))


def softmax(node: Node) -> list[Leaf]:
    rank = 1 + len(node.x.dims)
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1) % rank
    # Before opset 13, it takes all that follows the axis together.
    if axis != 1 or (node.opset < 13 and node.x.shape[1:] != (1, 1)):
        raise node.unmet(
            f"a softmax of (N, {', '.join(map(str, node.x.dims))}) along axis {axis} is not over C"
        )
    node.channels()
    return node.leaf(Softmax())


# -- products of matrices -------------------------------------------------------------------------------


def gemm(node: Node) -> list[Leaf]:
    if node.operands != [0] or node.attribute("transA", 0):
        raise node.unmet("only its input A may be an activation, and that as it is")
    alpha, beta, trans = (
        node.attribute("alpha", 1.0),
        node.attribute("beta", 1.0),
        node.attribute("transB", 0),
    )
    w = node.weights(1)
    w = w if trans else w.T
    bias = {}
    if node.has(2):
        b = node.weights(2)
        if b.ndim > 2 or b.shape[-1:] not in ((len(w),), (1,), ()) or b.size not in (1, len(w)):
            raise node.unmet(f"C {b.shape} is not one number for each of {len(w)} outputs")
        bias = {"b": np.broadcast_to(scaled(b.reshape(-1), beta), (len(w),))}
    return _linear(node, scaled(w, alpha), **bias)


def mat_mul(node: Node) -> list[Leaf]:
    if node.operands != [0]:
        raise node.unmet("only its first input may be an activation")
    return _linear(node, node.weights(1).T)


def scaled(array: np.ndarray, factor: float) -> np.ndarray:
    return array if factor == 1 else array * np.float32(factor)


def _linear(node: Node, w: np.ndarray, **bias: np.ndarray) -> list[Leaf]:
    if not node.x.flat or w.ndim != 2:
        raise node.unmet(f"needs matrices, has (N, {', '.join(map(str, node.x.dims))}) and {w.shape}")
    if w.shape[1] != node.x.size:
        raise node.unmet(f"weights {w.shape} do not fit {node.x.size} inputs")
    return node.leaf(Linear(len(w), **usual(Linear, bias=bool(bias))), w=w, **bias)


OPERATORS: dict[str, Callable[[Node], list[Leaf]]] = {
    **FUNCTIONS,
    **SHAPES,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Conv": conv,
    "Dropout": dropout,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "LRN": lrn,
    "MatMul": mat_mul,
    "MaxPool": max_pool,
    "PRelu": p_relu,
    "ReduceMean": reduce_mean,
    "Relu": relu,
    "Softmax": softmax,
}
