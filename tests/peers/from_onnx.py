"""ONNX's node tests, the models of one node that come with the package `onnx`, as minet's layers.

A function here has the name and the attributes of an operator. It takes the inputs, of which the first is x,
and the outputs that ONNX expects, and returns a case, or it raises `Unmet`. ONNX has no gradients.
"""

from __future__ import annotations

from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.case.node import _NodeTestCases
from peers import Case, Inputs, Unmet, argmax, elements, images

from minet.layers import LRN, AvgPool, BatchNorm, Conv, MaxPool, PReLU, ReLU


def MaxPool_(inputs, outputs, kernel_shape, ceil_mode=0, storage_order=0, **window):
    (x,), (y, *indices) = inputs, outputs
    layer = MaxPool(**geometry(x, kernel_shape, **window), ceil=bool(ceil_mode))
    expected = {"y": images(y)}
    if indices:  # into the whole of x, in which all but H and W are always in the order of C
        H, W = images(x).shape[1:3]
        at = images(indices[0]) % (H * W)
        h, w = np.divmod(at, W) if not storage_order else np.divmod(at, H)[::-1]
        expected["argmax"] = argmax(layer.window, h, w)
    return Case(layer, images(x), expected=expected)


def AveragePool(inputs, outputs, kernel_shape, ceil_mode=0, count_include_pad=0, **window):
    (x,), (y,) = inputs, outputs
    settings = geometry(x, kernel_shape, **window)
    layer = AvgPool(**settings, ceil=bool(ceil_mode), count_pad=bool(count_include_pad))
    return Case(layer, images(x), expected={"y": images(y)})


def GlobalAveragePool(inputs, outputs):
    (x,), (y,) = inputs, outputs
    return Case(AvgPool(), images(x), expected={"y": images(y)})


def Conv_(inputs, outputs, kernel_shape, group=1, **window):
    (x, w, *b), (y,) = inputs, outputs
    layer = Conv(len(w), **geometry(x, kernel_shape, **window), groups=group, bias=bool(b))
    return Case(
        layer, images(x), params={"w": w} | dict(zip("b", b, strict=False)), expected={"y": images(y)}
    )


def PRelu(inputs, outputs):
    (x, slope), (y,) = inputs, outputs
    sizes = (1,) * (x.ndim - slope.ndim) + slope.shape
    order = sorted(range(x.ndim), key=lambda axis: sizes[axis] == 1)  # where slopes differ is a channel

    def lay(a):
        return a.transpose(order).reshape(slope.size, 1, 1, -1)

    return Case(
        PReLU(), lay(x), params={"a": slope.reshape(sizes).transpose(order).ravel()}, expected={"y": lay(y)}
    )


def LRN_(inputs, outputs, size, alpha=1e-4, beta=0.75, bias=1.0):
    (x,), (y,) = inputs, outputs
    assert size % 2, "of an even size ONNX has one more map behind, minet before"
    return Case(LRN(size, alpha, beta, bias), images(x), expected={"y": images(y)})


def Relu(inputs, outputs):
    (x,), (y,) = inputs, outputs
    return Case(ReLU(), elements(x), expected={"y": elements(y)})


def BatchNormalization(inputs, outputs, epsilon=1e-5, momentum=0.9, training_mode=0):
    (x, gamma, shift, mean, var), (y, *_) = inputs, outputs
    if training_mode:
        raise Unmet(
            "running statistics of biased variances, where minet's and PyTorch's are of unbiased ones"
        )
    params, state = {"gamma": gamma, "shift": shift}, {"running_mean": mean, "running_var": var}
    layer = BatchNorm(momentum, epsilon)
    return Case(layer, images(x), params=params, state=state, train=False, expected={"y": images(y)})


def geometry(x, kernel_shape, strides=None, pads=None, dilations=None, auto_pad=b"NOTSET"):
    """The window's settings, as an importer works them out; one-dimensional windows have a height of 1."""
    if x.dtype.kind != "f":
        raise Unmet("whole numbers")
    axes = x.ndim - 2
    if axes > 2:
        raise Unmet("three-dimensional windows")
    size, ones = list(kernel_shape), [1] * axes
    stride, step, pad = strides or ones, dilations or ones, pads or [0] * 2 * axes
    if auto_pad.startswith(b"SAME"):
        spans = [d * (r - 1) + 1 for d, r in zip(step, size, strict=True)]
        total = [
            max(0, (-(-length // s) - 1) * s + span - length)
            for length, s, span in zip(x.shape[2:], stride, spans, strict=True)
        ]
        more, less = [-(-t // 2) for t in total], [t // 2 for t in total]
        pad = more + less if auto_pad == b"SAME_LOWER" else less + more
    one, none = [1] * (2 - axes), [(0, 0)] * (2 - axes)
    sides = none + list(zip(pad[:axes], pad[axes:], strict=True))
    return {"window": one + size, "stride": one + stride, "pad": sides, "dilation": one + step}


OPS = {
    "MaxPool": ("maxpool", MaxPool_),
    "AveragePool": ("averagepool", AveragePool),
    "GlobalAveragePool": ("globalaveragepool", GlobalAveragePool),
    "Conv": ("conv", Conv_),
    "PRelu": ("prelu", PRelu),
    "LRN": ("lrn", LRN_),
    "Relu": ("relu", Relu),
    "BatchNormalization": ("batch_normalization", BatchNormalization),
}


IN_FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}


@cache
def inputs(op: str) -> Inputs:
    """The inputs of all models that are one node of this type."""
    module, translate = OPS[op]
    import_module(f"onnx.backend.test.case.node.{module}")  # which adds its tests to the list

    def case(test: Any) -> Case:
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in test.model.graph.node[0].attribute}
        ((given, expected),) = test.data_sets
        made = translate(given, expected, **settings)
        made.rounded = 1e-3 if test.name in IN_FOUR_DIGITS else 0.0
        return made

    tests = [test for test in _NodeTestCases if [node.op_type for node in test.model.graph.node] == [op]]
    return Inputs(op, {test.name: partial(case, test) for test in tests})
