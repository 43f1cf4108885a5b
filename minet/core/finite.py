"""NaN and infinity: the error, and the search for the layer where they began."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
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

    def watched(layer: Layer, x: Array, y: Array, *rest: Any) -> None:
        type(layer).fprop(layer, x, y, *rest)
        if not found and not be.sum_is_finite(y):
            found.append(layer)

    with _each(graph, "fprop", watched):
        graph.fprop(x, y, 0.0, True)
    if not found:
        return "every layer's output is finite", f"{RATE}, or check the labels"
    where = f"the first output that is not finite comes from {found[0].where}"
    return where, f"{RATE}, or check the data"


def first_not_finite_bprop(be: Any, graph: Layer, x: Array, dy: Array) -> tuple[str, str]:
    """Where NaN or infinity began in bprop, or "", and a hint; repeats it, for the x of the last fprop."""
    if not finite(be, dy):
        return "the gradient that the loss gives is not finite", f"{RATE}, or check the loss"
    found: list[str] = []

    def watched(layer: Layer, x: Array, dy: Array, dx: Array | None, *rest: Any) -> None:
        type(layer).bprop(layer, x, dy, dx, *rest)
        if not found and dx is not None and not finite(be, dx):
            place = tuple(np.argwhere(~np.isfinite(be.get(dx)))[0].tolist())
            at = f"dx[{', '.join(map(str, place))}], where x is {be.get(x)[place]:.6g}"
            found.append(f"it comes from bprop of {layer.where}: {at}")
        if not found and not all(finite(be, grad) for grad in layer.g.values()):
            found.append(f"it comes from bprop of {layer.where}")

    with _each(graph, "bprop", watched):
        graph.bprop(x, dy, None, 0.0)
    return "".join(found), f"{RATE}, or check what its bprop does there" if found else RATE


def finite(be: Any, array: Array) -> bool:
    """Whether all of an array's elements are finite; it is read on the host."""
    return bool(np.isfinite(be.get(array)).all())


@contextlib.contextmanager
def _each(graph: Layer, phase: str, call: Callable[..., None]) -> Iterator[None]:
    """Within this context, `call` gets what the layers without children are called for."""
    leaves = [layer for layer in graph.walk() if not layer.children]
    for layer in leaves:
        layer.__dict__[phase] = functools.partial(call, layer)
    try:
        yield
    finally:
        for layer in leaves:
            del layer.__dict__[phase]
