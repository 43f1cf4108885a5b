"""Neighbours that are one layer: Conv or Linear and a bias, a scale and a shift; where asked, BatchNorm too.

Each step is right for training too, but for a BatchNorm that is folded: that layer is gone then.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.layers.batch_norm import BatchNorm
from minet.layers.conv import Conv
from minet.layers.elementwise import Elementwise
from minet.layers.linear import Linear
from minet.onnx.graph import Branches, Item, Leaf

DEEPEST = 40  # containers within one another
SCALE, SHIFT, BOTH = "a * x", "x + b", "a * x + b"


def simplified(items: list[Item], fold: bool = False, depth: int = 0) -> list[Item]:
    """A sequence whose neighbours are joined; with `fold`, also BatchNorm and scales with what is before."""
    if depth > DEEPEST:
        raise MinetError(f"branches lie within one another more than {DEEPEST} deep")
    done: list[Item] = []
    for item in items:
        if isinstance(item, Branches):
            item = Branches(item.kind, [simplified(part, fold, depth + 1) for part in item.parts])
        last = done[-1] if done else None
        joined = None
        if isinstance(item, Leaf) and isinstance(last, Leaf):
            joined = _biased(last, item) or _affine(last, item) or (_folded(last, item) if fold else None)
        if joined:
            done[-1] = joined
        else:
            done.append(item)
    return done


def _expression(leaf: Leaf) -> str:
    """The expression of an Elementwise with values for each channel."""
    layer = leaf.layer
    return str(layer._call[0][0]) if isinstance(layer, Elementwise) and not layer.shared else ""


def _biased(first: Leaf, second: Leaf) -> Leaf | None:
    """Conv or Linear without b, and a shift."""
    if isinstance(first.layer, Conv | Linear) and "b" not in first.arrays and _expression(second) == SHIFT:
        return Leaf(_with_bias(first.layer), {**first.arrays, **second.arrays}, first.node)
    return None


def _with_bias(layer: Layer) -> Layer:
    args, settings = layer._call
    return type(layer)(*args, **{name: value for name, value in settings.items() if name != "bias"})


def _affine(first: Leaf, second: Leaf) -> Leaf | None:
    """A scale, and a shift."""
    if (_expression(first), _expression(second)) == (SCALE, SHIFT):
        return Leaf(Elementwise(BOTH, a=1.0, b=0.0), {**first.arrays, **second.arrays}, first.node)
    return None


def _folded(first: Leaf, second: Leaf) -> Leaf | None:
    """Conv or Linear, and what scales and shifts its maps in evaluation."""
    if not isinstance(first.layer, Conv | Linear) or (found := _scale_and_shift(second)) is None:
        return None
    scale, shift = found
    w: Any = first.arrays["w"]
    w = w.astype(np.float64) * scale.reshape(-1, *(1,) * (w.ndim - 1))
    b = first.arrays.get("b", np.zeros(1)).astype(np.float64) * scale + shift
    arrays = {"w": w.astype(np.float32), "b": b.astype(np.float32)}
    return Leaf(_with_bias(first.layer), arrays, first.node)


def _scale_and_shift(leaf: Leaf) -> tuple[np.ndarray, np.ndarray] | None:
    """In float64, what a layer multiplies each channel with and then adds; None for another layer."""
    arrays = {name: array.astype(np.float64) for name, array in leaf.arrays.items()}
    if isinstance(leaf.layer, BatchNorm):
        scale = arrays["gamma"] / np.sqrt(arrays["running_var"] + leaf.layer.eps)
        return scale, arrays["shift"] - arrays["running_mean"] * scale
    if _expression(leaf) in (SCALE, SHIFT, BOTH):
        one = next(iter(arrays.values()))
        return arrays.get("a", np.ones_like(one)), arrays.get("b", np.zeros_like(one))
    return None
