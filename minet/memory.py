"""How the memory of a net is laid out: arrays one after another in a few buffers, each on a cache line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet.graph import with_depth
from minet.layer import Array, Layer, Named, Param, Shape, State
from minet.settings import is_whole

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
        states = declared_states(layer, *shapes[layer]).values()
        need = sum(room(*concrete(state, batch, default)) for state in states if state.scratch)
        sizes[depth] = max(sizes.get(depth, 0), need)
    return [sizes[depth] for depth in sorted(sizes)]


def first_value(layer: Layer, name: str, param: Param, generator: np.random.Generator) -> np.ndarray:
    """What a parameter starts from."""
    values = param.init(param.shape, generator) if callable(param.init) else param.init
    try:
        first = np.ascontiguousarray(np.broadcast_to(np.asarray(values, dtype=float), param.shape))
    except (TypeError, ValueError):
        what = f"{values!r}" if isinstance(values, str) or values is None else f"of shape {np.shape(values)}"
        hint = "give a number, an array of that shape, or init(shape, rng) such as He()"
        raise layer.error(f"initial {name} {what} does not fit {tuple(param.shape)}", hint) from None
    if not np.isfinite(first).all():
        raise layer.error(f"initial {name} is not finite")
    return first


def declared_params(layer: Layer, in_shape: Shape) -> dict[str, Param]:
    """What params() says, checked."""
    params = layer.params(in_shape)
    _check_named(layer, "params", params, Param)
    for name, param in params.items():
        low, high = param.bounds or (None, None)
        if low is not None and high is not None and low > high:
            raise layer.error(f"params() gives {name!r} the bounds {param.bounds}, the lower above the upper")
    return params


def declared_states(layer: Layer, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
    """What state() says, checked."""
    states = layer.state(in_shape, out_shape)
    _check_named(layer, "state", states, State)
    for name, state in states.items():
        try:
            fit = state.dtype is None or np.dtype(state.dtype).kind in "bifuc"
        except TypeError:
            fit = False
        if not fit:
            hint = 'give one like "uint8", or None for the net\'s own'
            raise layer.error(f"state() gives {name!r} the dtype {state.dtype!r}", hint)
    return states


def _check_named(layer: Layer, method: str, found: Any, kind: type[Param] | type[State]) -> None:
    """Raise unless `found` is a dict of names to `kind`, each with a shape of whole sizes."""
    hint = f'return {{"name": {kind.__name__}(shape)}}'
    if not isinstance(found, dict):
        raise layer.error(f"{method}() must give a dict, got {found!r}", hint)
    for name, item in found.items():
        if not isinstance(item, kind):
            raise layer.error(f"{method}() must give {kind.__name__}s, got {item!r} for {name!r}", hint)
        if not isinstance(name, str) or not name.isidentifier() or hasattr(dict, name):
            raise layer.error(f"{method}() has the name {name!r}", "one that reads as an attribute: self.p.w")
        sizes = item.shape if isinstance(item.shape, tuple) else (None,)
        if not all(is_whole(size) and size >= 0 for size in sizes):
            raise layer.error(f"{method}() gives {name!r} the shape {item.shape!r}", "a tuple of whole sizes")


def tied(layer: Layer, in_shape: Shape, here: Iterable[Layer]) -> tuple[Named, Named]:
    """The arrays that a twin shares with the layer it was made from."""
    original = layer.tied
    assert original is not None
    if original not in set(here):
        raise layer.error(
            "the layer whose weights this twin shares is not in this net", "put the original in too"
        )
    for name, param in declared_params(layer, in_shape).items():
        if tuple(param.shape) != original.p[name].shape:
            raise layer.error(
                f"shares {name} of shape {original.p[name].shape} with {original.where}, needs {param.shape}"
            )
    return original.p, original.g
