"""Check that a net fits into a device's memory before anything is allocated."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np

from minet.core.declared import all_states, declared_params, declared_states
from minet.core.graph import with_depth
from minet.core.layer import Layer
from minet.core.memory import Shapes, concrete, padded_nbytes
from minet.core.naming import mib


def check_capacity(
    be: Any, graph: Layer, shapes: Shapes, batch: int, *, held: int = 0, copies: int = 0
) -> None:
    """Raise before anything is allocated if a net does not fit into the device's memory.

    Parameters
    ----------
    held : int
        Bytes that will be freed first.
    copies : int
        How many arrays of each parameter's size are still to be allocated: value, gradient and, in training,
        a solver's velocity. 0 if parameters and persistent state are allocated already.

    Raises
    ------
    LayerError
        If it does not fit: how much is needed and free, which layer needs the most, a batch that would fit.
    """
    free = be.free_memory()
    if free is None:
        return
    # A reserve for the loss and for kernels' partial sums: little, and not for layers to declare.
    free += held - (free // 64 if copies else 0)
    lasting = _lasting(be, graph, shapes, copies) if copies else 0

    def needed(batch: int) -> int:
        return lasting + sum(size for size, *_ in _demands(graph, shapes, batch, be.dtype))

    if needed(batch) <= free:
        return
    size, layer, what = max(_demands(graph, shapes, batch, be.dtype), key=lambda demand: demand[0])
    fits = bisect_right(range(min(batch, sys.maxsize)), free, key=needed) - 1
    raise layer.error(
        f"out of device memory: at batch {batch} the net needs {mib(needed(batch))}, but only {mib(free)} "
        f"are free; this layer needs the most, {mib(size)} for its {what}",
        f"a batch of {fits} would fit" if fits > 0 else "not even a batch of 1 would fit: use a smaller net",
    )


def _lasting(be: Any, graph: Layer, shapes: Shapes, copies: int) -> int:
    """Bytes that do not depend on the batch: `copies` of the parameters, two of persistent state."""
    params = (
        param
        for layer in graph.walk()
        if not layer.tied
        for param in declared_params(layer, shapes[layer][0]).values()
    )
    states = (state for *_, state in all_states(graph, shapes) if state.persistent)
    return copies * sum(padded_nbytes(param.shape, be.dtype) for param in params) + 2 * sum(
        padded_nbytes(*concrete(state, 0, be.dtype)) for state in states
    )


def _demands(graph: Layer, shapes: Shapes, batch: int, default: np.dtype) -> Iterator[tuple[int, Layer, str]]:
    """Yield bytes that grow with the batch, the layer that needs them, and what for."""
    in_shape, out_shape = shapes[graph]
    # The next input arrives while the previous one is still held.
    yield 2 * math.prod(in_shape) * batch * default.itemsize, graph, "input"
    yield 2 * math.prod(out_shape) * batch * default.itemsize, graph, "output and its delta"
    scratch: dict[int, tuple[int, Layer, str]] = {}
    for depth, layer in with_depth(graph):
        states = [s for s in declared_states(layer, *shapes[layer]).values() if not s.persistent]
        need = sum(padded_nbytes(*concrete(s, batch, default)) for s in states if s.scratch)
        if need > scratch.get(depth, (0,))[0]:
            scratch[depth] = need, layer, "working memory"
        if own := sum(padded_nbytes(*concrete(s, batch, default)) for s in states if not s.scratch):
            yield own, layer, "state"
    yield from scratch.values()
