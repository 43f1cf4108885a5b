"""How the memory of a net is laid out: arrays one after another in a few buffers, each on a cache line."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minet.errors import MinetError
from minet.graph import with_depth
from minet.layer import Array, Layer, Named, Param, Shape, State
from minet.settings import is_whole

LINE = 64  # bytes of a cache line
Derived: TypeAlias = tuple[Layer, str, Any]  # an attribute set by on_bind, and what it was before
ABSENT: Any = object()
Shapes: TypeAlias = dict[Layer, tuple[Shape, Shape]]  # of a layer's input and output


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


def scratch_sizes(graph: Layer, shapes: Shapes, batch: int, default: np.dtype) -> list[int]:
    """Bytes of scratch for each depth: layers of one depth never run inside one another, and share."""
    sizes: dict[int, int] = {}
    for depth, layer in with_depth(graph):
        states = declared_states(layer, *shapes[layer]).values()
        need = sum(room(*concrete(state, batch, default)) for state in states if state.scratch)
        sizes[depth] = max(sizes.get(depth, 0), need)
    return [sizes[depth] for depth in sorted(sizes)]


def all_states(graph: Layer, shapes: Shapes) -> Iterator[tuple[Layer, str, State]]:
    """Every layer's declared states, by name."""
    for layer in graph.walk():
        for name, state in declared_states(layer, *shapes[layer]).items():
            yield layer, name, state


def unbind_states(graph: Layer, shapes: Shapes, derived: list[Derived]) -> None:
    """Let go of all state but the persistent, and of what `on_bind` made of it."""
    for layer, name, before in derived:
        if before is ABSENT:
            vars(layer).pop(name, None)
        else:
            vars(layer)[name] = before
    for layer in graph.walk():
        kept = (name for name, state in declared_states(layer, *shapes[layer]).items() if state.persistent)
        layer.s = Named({name: layer.s[name] for name in kept})


def told_bound(graph: Layer, kind: type) -> list[Derived]:
    """Call each layer's `on_bind`: the attributes that it set to arrays of that kind, and what was there."""
    derived = []

    def arrays(value: Any) -> bool:
        items = value.values() if isinstance(value, dict) else value
        return isinstance(value, kind) or (
            isinstance(value, dict | list | tuple) and any(isinstance(item, kind) for item in items)
        )

    for layer in graph.walk():
        before = dict(vars(layer))
        layer.on_bind()
        for name, value in vars(layer).items():
            if (old := before.get(name, ABSENT)) is not value and arrays(value):
                derived.append((layer, name, old))
    return derived


def bind_states(be: Any, graph: Layer, shapes: Shapes, batch: int) -> list[Array]:
    """Give each layer its state for that batch size, beside its persistent one; the memory that it took."""
    scratch = [be.empty((size,), "uint8") for size in scratch_sizes(graph, shapes, batch, be.dtype)]
    taken = list(scratch)
    for depth, layer in with_depth(graph):
        arrays, start = {}, 0
        for name, state in declared_states(layer, *shapes[layer]).items():
            shape, dtype = concrete(state, batch, be.dtype)
            if state.persistent:
                arrays[name] = layer.s[name]
            elif state.scratch:
                arrays[name], start = place(scratch[depth], start, shape, dtype)
            else:
                arrays[name] = be.empty(shape, dtype)
                be.fill(arrays[name], state.init)
                taken.append(arrays[name])
        layer.s = Named(arrays)
    return taken


def check_room(be: Any, graph: Layer, shapes: Shapes, batch: int, *, held: int = 0, copies: int = 0) -> None:
    """Raise before anything is allocated if a net does not fit into the device's memory.

    Parameters
    ----------
    held : int
        Bytes that will be given back first.
    copies : int
        How many times parameters are still to be allocated: with their gradients, and a solver's velocities.
        With 0 they, and persistent state, are there.

    Raises
    ------
    LayerError
        How much was asked, how much is free, which layer asks for the most, and a batch that would fit.
    """
    free = be.free_memory()
    if free is None:
        return
    # What the loss and the sums of kernels take when it runs is little, and not the layers' to declare.
    free += held - (free // 64 if copies else 0)
    lasting = 0
    if copies:
        params = (
            p for layer in graph.walk() if not layer.tied for p in layer.params(shapes[layer][0]).values()
        )
        states = (s for *_, s in all_states(graph, shapes) if s.persistent)
        lasting += copies * sum(room(param.shape, be.dtype) for param in params)
        lasting += 2 * sum(room(*concrete(state, 0, be.dtype)) for state in states)

    def asked(batch: int) -> int:
        return lasting + sum(size for size, *_ in _demands(graph, shapes, batch, be.dtype))

    if asked(batch) <= free:
        return
    size, layer, what = max(_demands(graph, shapes, batch, be.dtype), key=lambda demand: demand[0])
    fits = bisect_right(range(batch), free, key=asked) - 1
    raise layer.error(
        f"out of device memory: at batch {batch} the net asks for {mib(asked(batch))}, and {mib(free)} are "
        f"free; this layer asks for the most, {mib(size)} for its {what}",
        f"a batch of {fits} would fit" if fits > 0 else "not even a batch of 1 would fit: a smaller net",
    )


def _demands(graph: Layer, shapes: Shapes, batch: int, default: np.dtype) -> Iterator[tuple[int, Layer, str]]:
    """Bytes that grow with the batch, and which layer asks for them, for what."""
    in_shape, out_shape = shapes[graph]
    # An input comes in while the one before it is still held.
    yield 2 * math.prod(in_shape) * batch * default.itemsize, graph, "input"
    yield 2 * math.prod(out_shape) * batch * default.itemsize, graph, "output and its delta"
    scratch: dict[int, tuple[int, Layer, str]] = {}
    for depth, layer in with_depth(graph):
        states = [s for s in declared_states(layer, *shapes[layer]).values() if not s.persistent]
        need = sum(room(*concrete(s, batch, default)) for s in states if s.scratch)
        if need > scratch.get(depth, (0,))[0]:
            scratch[depth] = need, layer, "working memory"
        if own := sum(room(*concrete(s, batch, default)) for s in states if not s.scratch):
            yield own, layer, "state"
    yield from scratch.values()


def mib(size: int) -> str:
    """A number of bytes as one reads it."""
    return f"{size / 2**20:,.1f} MiB"


def shape_of(values: Any) -> Shape:
    """The shape of an array, or of what offers itself as one in a GPU's memory."""
    offer = getattr(values, "__cuda_array_interface__", None)
    return tuple(offer["shape"]) if offer else np.shape(values)


def checked_batch(batch: int) -> int:
    """The batch size as an int, if it is a whole number of at least 1."""
    if not is_whole(batch) or batch < 1:
        raise MinetError(f"batch must be a whole number of at least 1, got {batch!r}")
    return int(batch)


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
