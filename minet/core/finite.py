"""NaN and infinity: the error, and the search for the layer where they began."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array, Layer
from minet.core.memory import Slot


class NotFiniteError(MinetError):
    """A loss, a gradient or an output became NaN or infinity; the parameters are unchanged."""


RATE = "lower the learning rate"


def first_not_finite(
    be: Any, graph: Layer, slots: Iterable[Slot], x: Array, y: Array, first: int = 0
) -> tuple[str, str]:
    """Where NaN or infinity began, and a hint; repeats the last training fprop, watching every output.

    Parameters
    ----------
    be : Backend
    graph : Layer
    slots : iterable of Slot
        The net's parameters.
    x, y : array
        The net's input, and its output to write into.
    first : int
        The number of x's first sample in the batch.
    """
    samples = np.isfinite(be.get(x)).all(axis=(0, 1, 2))
    if not samples.all():
        where = f"the data is not finite, first in sample {first + samples.argmin()} of the batch"
        return where, "find it with np.isfinite(images).all(axis=(1, 2, 3))"
    for slot in slots:
        if not be.sum_is_finite(slot.value):
            return f"the parameter {slot.path} is not finite", RATE
    found: list[Layer] = []

    def watched(layer: Layer) -> Any:
        def fprop(x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
            type(layer).fprop(layer, x, y, beta, train)
            if not found and not be.sum_is_finite(y):
                found.append(layer)

        return fprop

    leaves = [layer for layer in graph.walk() if not layer.children]
    for layer in leaves:
        layer.__dict__["fprop"] = watched(layer)
    try:
        graph.fprop(x, y, 0.0, True)
    finally:
        for layer in leaves:
            del layer.__dict__["fprop"]
    if not found:
        return "every layer's output is finite", f"{RATE}, or check the labels"
    where = f"the first output that is not finite comes from {found[0].where}"
    return where, f"{RATE}, or check the data"
