"""How the memory of a net is laid out: arrays one after another in a few buffers, each on a cache line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from minet.graph import with_depth
from minet.layer import Array, Layer, Named, Param, Shape, State

LINE = 64  # bytes of a cache line


@dataclass
class Slot:
    """One parameter of a net: its path, its declaration, its value and its gradient."""

    path: str
    param: Param
    value: Array
    grad: Array


def room(shape: Shape, dtype: np.dtype) -> int:
    """Bytes that an array takes up in a buffer, to the end of its last cache line."""
    return -(-math.prod(shape) * dtype.itemsize // LINE) * LINE


def place(memory: Array, start: int, shape: Shape, dtype: np.dtype) -> tuple[Array, int]:
    """An array in a buffer of bytes from `start` on, and where the next one starts."""
    end = start + math.prod(shape) * dtype.itemsize
    return memory[start:end].view(dtype).reshape(shape), start + room(shape, dtype)


def concrete(state: State, batch: int, default: np.dtype) -> tuple[Shape, np.dtype]:
    """Shape and dtype that a State has in a net of that batch size and floating type."""
    per_sample = state.per_sample and not state.persistent
    shape = (*state.shape, batch) if per_sample else tuple(state.shape)
    return shape, np.dtype(state.dtype) if state.dtype else default


def scratch_sizes(
    graph: Layer, shapes: dict[Layer, tuple[Shape, Shape]], batch: int, default: np.dtype
) -> list[int]:
    """Bytes of scratch for each depth: layers of one depth never run inside one another, and share."""
    sizes: dict[int, int] = {}
    for depth, layer in with_depth(graph):
        states = layer.state(*shapes[layer]).values()
        need = sum(room(*concrete(state, batch, default)) for state in states if state.scratch)
        sizes[depth] = max(sizes.get(depth, 0), need)
    return [sizes[depth] for depth in sorted(sizes)]


def first_value(layer: Layer, name: str, param: Param, generator: np.random.Generator) -> np.ndarray:
    """What a parameter starts from."""
    values = param.init(param.shape, generator) if callable(param.init) else param.init
    try:
        return np.ascontiguousarray(np.broadcast_to(np.asarray(values, dtype=float), param.shape))
    except ValueError:
        raise layer.error(
            f"initial {name} of shape {np.shape(values)} does not fit {tuple(param.shape)}"
        ) from None


def tied(layer: Layer, in_shape: Shape, here: Iterable[Layer]) -> tuple[Named, Named]:
    """The arrays that a twin shares with the layer it was made from."""
    original = layer.tied
    assert original is not None
    if original not in set(here):
        raise layer.error(
            "the layer whose weights this twin shares is not in this net", "put the original in too"
        )
    for name, param in layer.params(in_shape).items():
        if tuple(param.shape) != original.p[name].shape:
            raise layer.error(
                f"shares {name} of shape {original.p[name].shape} with {original.where}, needs {param.shape}"
            )
    return original.p, original.g
