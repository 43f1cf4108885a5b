"""Nodes that compute from constants alone: they are computed once, as the file is read.

Of an activation only its shape is a constant. Each result is counted before it is made (`Source.claim`).

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.onnx.node import Node, Signal
from minet.onnx.source import Source

Arrays = list[np.ndarray]


def fold(proto: Any, node: Node, source: Source, shapes: dict[str, Signal]) -> np.ndarray | None:
    """What a node makes of constants; None if it does not compute from constants, or is none of these."""
    if proto.op_type == "Shape" and node.signals:
        sizes = np.array([node.batch, *shapes[proto.input[0]].dims], np.int64)
        return sizes[slice(node.attribute("start", 0), node.attribute("end"))]
    if proto.op_type not in FOLDED or not all(name in source for name in proto.input if name):
        return None
    try:
        with np.errstate(all="ignore"):
            made = FOLDED[proto.op_type](node, [source[name] for name in proto.input if name], source)
    except (ValueError, IndexError, TypeError, OverflowError, ArithmeticError) as error:
        raise node.unmet(f"cannot be computed: {error}") from error
    except MinetError as error:
        raise error if error.message.startswith(node.name) else node.unmet(error.message) from error
    return made


def _constant(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    names = ("value", "value_float", "value_floats", "value_int", "value_ints")
    values = [value for name in names if (value := node.attribute(name)) is not None]
    if len(values) != 1:
        raise node.unmet("has no numbers as its value")
    dtype = np.float32 if node.attribute("value_float") or node.attribute("value_floats") else None
    return np.asarray(values[0], dtype)


def _constant_of_shape(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    value, shape = node.attribute("value"), [int(size) for size in arrays[0]]
    value = np.zeros(1, np.float32) if value is None else np.asarray(value)
    source.claim(shape, value.itemsize)
    return np.broadcast_to(value.reshape(()), shape)  # no memory yet


def _cast(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    types = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}
    if (kind := node.attribute("to")) not in types:
        raise node.unmet(f"casts to type {kind}")
    dtype = np.dtype(types[kind])
    source.claim(arrays[0].shape, dtype.itemsize)
    return arrays[0].astype(dtype)


def _unsqueeze(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    return np.expand_dims(arrays[0], tuple(node.listed("axes", 1) or ()))


def _squeeze(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    axes = node.listed("axes", 1)
    return np.squeeze(arrays[0], None if axes is None else tuple(axes))


def _reshape(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    shape, x = node.listed("shape", 1) or [], arrays[0]
    keeps = not node.attribute("allowzero", 0)
    sizes = [x.shape[i] if size == 0 and keeps else size for i, size in enumerate(shape)]
    source.claim(x.shape, x.itemsize)
    return x.reshape(sizes)


def _flatten(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    x, axis = arrays[0], node.attribute("axis", 1)
    source.claim(x.shape, x.itemsize)
    return x.reshape(math.prod(x.shape[: axis if axis >= 0 else x.ndim + axis]), -1)


def _transpose(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    return np.transpose(arrays[0], node.attribute("perm"))


def _concat(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    for array in arrays:
        source.claim(array.shape, array.itemsize)
    return np.concatenate(arrays, node.attribute("axis", 0))


def _gather(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    x, indices = arrays
    axis = node.attribute("axis", 0)
    source.claim((indices.size, x.size // max(1, x.shape[axis])), x.itemsize)
    return np.take(x, indices, axis)


def _slice(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    x = arrays[0]
    starts, ends = node.listed("starts", 1) or [], node.listed("ends", 2) or []
    axes = node.listed("axes", 3) or list(range(len(starts)))
    steps = node.listed("steps", 4) or [1] * len(starts)
    parts = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        parts[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(parts)]


def _reduce_mean(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    axes = node.listed("axes", 1) or []
    if not axes and node.attribute("noop_with_empty_axes", 0):
        return arrays[0]
    return np.asarray(np.mean(arrays[0], tuple(axes) or None, keepdims=bool(node.attribute("keepdims", 1))))


def _batch_normalization(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
    """As PyTorch's exporter standardises weights."""
    if node.attribute("training_mode", 0):
        raise node.unmet("it computes in training mode")
    x, *others = arrays
    if any(array.shape != x.shape[1:2] for array in others):
        raise node.unmet("needs a number of each kind for each channel")
    source.claim(x.shape, x.itemsize)
    scale, shift, mean, var = (array.reshape(-1, *(1,) * (x.ndim - 2)) for array in others)
    return (x - mean) / np.sqrt(var + node.attribute("epsilon", 1e-5)) * scale + shift


def _of_each(function: Callable[..., Any]) -> Callable[[Node, Arrays, Source], np.ndarray]:
    """A function of each element."""

    def compute(node: Node, arrays: Arrays, source: Source) -> np.ndarray:
        dtype = arrays[0].dtype
        source.claim(np.broadcast_shapes(*(array.shape for array in arrays)), dtype.itemsize)
        return np.asarray(function(*arrays), dtype)

    return compute


def _divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a / b if a.dtype.kind == "f" else np.sign(a) * np.sign(b) * (abs(a) // abs(b))  # towards 0


FOLDED: dict[str, Callable[[Node, Arrays, Source], np.ndarray]] = {
    "Add": _of_each(np.add),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _of_each(_divided),
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": lambda node, arrays, source: arrays[0],
    "Mul": _of_each(np.multiply),
    "Neg": _of_each(np.negative),
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Slice": _slice,
    "Sqrt": _of_each(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _of_each(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
