"""Bytes that must move and operations that must be done: the bound that a time is measured against.

A layer has to read x and write y in fprop. In bprop it has to read dy and write dx, and to read x again if
its derivative depends on x. What bprop needs from fprop besides x is integer state (the position of a
maximum): fprop writes it, bprop reads it. Parameters and their gradients count once, as a read or a write
each. Everything counts as if it came from memory, and beta is 0, so no destination is read. Operations are
those of matrix products: a multiplication and an addition for each weight and output. Other arithmetic is
free.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minet.core.layer import Layer
from minet.core.net import Net

WITHOUT_X = ("MaxPool", "AvgPool", "StochasticPool", "Dropout", "Identity")  # bprop does not need x


def bytes_moved(net: Net, phase: str) -> int:
    """Return the bytes that a net of one layer must move; 0 for a model, whose use of cache is not known."""
    layer = net.graph
    if layer.children:
        return 0
    x, y = (math.prod(shape) * net.batch * net.be.dtype.itemsize for shape in net.shapes[layer])
    state = sum(s.nbytes for s in layer.s.values() if np.dtype(s.dtype).kind in "iu" and s.ndim == 4)
    params = sum(p.nbytes for p in layer.p.values())
    fprop = x + y + state + params
    bprop = y + x + state + 2 * params + (0 if type(layer).__name__ in WITHOUT_X else x)
    return {"fprop": fprop, "bprop": bprop, "fprop+bprop": fprop + bprop}[phase]


def operations(net: Net, phase: str) -> int:
    """Count the operations of Conv's and Linear's matrix products; a model's first layer needs no dx."""
    layers = [layer for layer in net.graph.walk() if not layer.children]
    forward = {layer: _product(layer, net.shapes[layer], net.batch) for layer in layers}
    fprop = sum(forward.values())
    first = forward[layers[0]] if phase == "step" else 0
    bprop = 2 * fprop - first
    both = fprop + bprop
    return {"fprop": fprop, "inference": fprop, "bprop": bprop, "fprop+bprop": both, "step": both}[phase]


def _product(layer: Layer, shapes: Any, batch: int) -> int:
    if type(layer).__name__ not in ("Conv", "Linear"):
        return 0
    _, (_, P, Q) = shapes
    return 2 * int(layer.p.w.size) * P * Q * batch


def bound(moved: int, done: int, peaks: dict[str, Any] | None) -> tuple[float, str] | None:
    """Return the seconds that a machine with these peaks needs at least, and which peak sets the bound.

    None if no peak applies.

    Parameters
    ----------
    peaks : dict
        As `minet.bench.peaks` measures them: "copy" is a list of (bytes moved, bytes per second) from
        small to large, "product" operations per second.
    """
    times = {}
    if peaks and moved and peaks.get("copy"):
        sizes, speeds = zip(*peaks["copy"], strict=True)
        times["copy"] = moved / float(np.interp(math.log(moved), np.log(sizes), speeds))
    if peaks and done and peaks.get("product"):
        times["product"] = done / peaks["product"]
    if not times:
        return None
    what = max(times, key=times.__getitem__)
    return times[what], what
