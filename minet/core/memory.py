"""A net's memory: arrays one after another in a few buffers, each from a cache line on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minet.core import rng
from minet.core.declared import all_states, declared_params, declared_states, first_value
from minet.core.graph import with_depth
from minet.core.layer import Array, Layer, Param, Shape, State
from minet.core.node import Named, owned

LINE = 64  # bytes of a cache line; arrays start on one, so that SIMD loads never straddle two
ABSENT: Any = object()
Shapes: TypeAlias = dict[Layer, tuple[Shape, Shape]]  # of a layer's input and output


@dataclass
class Slot:
    """One parameter of a net: its path, its declaration, its value and its gradient."""

    path: str
    param: Param
    value: Array
    grad: Array
    start: int  # of both in the net's buffers, in elements

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("value", "grad") and vars(self).get(name, value) is not value:
            raise owned(f"slot.{name}")
        super().__setattr__(name, value)

    def place(self, flat: Array) -> Array:
        """The parameter's place in a buffer laid out like the net's."""
        return flat[self.start : self.start + self.value.size].reshape(self.value.shape)


class Memory:
    """All arrays of a net: lasting ones allocated at once, those that depend on the batch size by `resize`.

    Parameters
    ----------
    be : Backend
    graph : Layer
    shapes : dict of Layer to (in_shape, out_shape)
    seed : int
        Decides initial values, together with each parameter's path.

    Attributes
    ----------
    slots : list of Slot
        Every parameter, in forward order.
    flat_params, flat_grads : array
        All parameters, and all gradients, each as one buffer.
    persistent : dict of str to array
        State that checkpoints save, by path.
    x, y, dy : array
        The net's input, its output and the output's delta.
    verdict : array, optional
        ``(loss, refused)`` of the last training step, where a backend judges (`Backend.judges`).
    """

    def __init__(self, be: Any, graph: Layer, shapes: Shapes, seed: int) -> None:
        self.be, self.graph, self.shapes = be, graph, shapes
        self.x: Array = None
        self.y: Array = None
        self.dy: Array = None
        self.verdict: Array = be.zeros((2,), "float64") if be.judges else None
        self._of_batch: list[Array] = []  # what depends on the batch size
        self._derived: list[
            tuple[Layer, str, Any]
        ] = []  # attributes set by on_bind, and what was there before
        self._place_params(seed)
        self._place_persistent()

    def _place_params(self, seed: int) -> None:
        """Allocate parameters in one buffer and gradients in another."""
        layers = list(self.graph.walk())
        for layer in layers:
            layer.p, layer.g, layer.s = Named(), Named(), Named()
        declared = [
            (layer, name, param)
            for layer in layers
            if not layer.tied
            for name, param in declared_params(layer, self.shapes[layer][0]).items()
        ]
        itemsize = self.be.dtype.itemsize
        size = sum(padded_nbytes(param.shape, self.be.dtype) for *_, param in declared) // itemsize
        self.flat_params, self.flat_grads = self.be.zeros((size,)), self.be.zeros((size,))
        self.slots: list[Slot] = []
        start = 0
        for layer, name, param in declared:
            path, part = f"{layer.full_path}.{name}", slice(start, start + math.prod(param.shape))
            value, grad = (flat[part].reshape(param.shape) for flat in (self.flat_params, self.flat_grads))
            self.be.copy(first_value(layer, name, param, rng.generator(seed, path)), value)
            layer.p[name], layer.g[name] = value, grad
            self.slots.append(Slot(path, param, value, grad, start))
            start += padded_nbytes(param.shape, self.be.dtype) // itemsize
        for layer in layers:
            if layer.tied:
                layer.p, layer.g = tied(layer, self.shapes[layer][0], layers)

    def _place_persistent(self) -> None:
        """Allocate persistent state, and as much again for `keep_state`."""
        kept = [found for found in all_states(self.graph, self.shapes) if found[2].persistent]
        size = sum(padded_nbytes(*concrete(state, 0, self.be.dtype)) for *_, state in kept)
        self._state, self._kept = self.be.zeros((size,), "uint8"), self.be.zeros((size,), "uint8")
        self.persistent: dict[str, Array] = {}
        start = 0
        for layer, name, state in kept:
            if name in layer.p:
                raise layer.error(f"{name!r} names both a parameter and persistent state", "rename one")
            array, start = carve(self._state, start, *concrete(state, 0, self.be.dtype))
            self.be.fill(array, state.init)
            layer.s[name] = self.persistent[f"{layer.full_path}.{name}"] = array

    def resize(self, batch: int) -> None:
        """Free what depends on the batch size, then allocate it for this one."""
        self.x = self.y = self.dy = None  # freed first: the device need not hold both the old and the new
        self._of_batch = []
        self._unbind()
        self._of_batch = self._bind(batch)
        in_shape, out_shape = self.shapes[self.graph]
        self.x = self.be.empty((*in_shape, batch))
        self.y, self.dy = (self.be.zeros((*out_shape, batch)) for _ in range(2))
        self._of_batch += [self.x, self.y, self.dy]

    def _bind(self, batch: int) -> list[Array]:
        """Give each layer its state for that batch size, persistent state included; return the new arrays."""
        scratch = [self.be.empty((size,), "uint8") for size in self._scratch_sizes(batch)]
        taken = list(scratch)
        for depth, layer in with_depth(self.graph):
            arrays, start = {}, 0
            for name, state in declared_states(layer, *self.shapes[layer]).items():
                shape, dtype = concrete(state, batch, self.be.dtype)
                if state.persistent:
                    arrays[name] = layer.s[name]
                elif state.scratch:
                    arrays[name], start = carve(scratch[depth], start, shape, dtype)
                else:
                    arrays[name] = self.be.empty(shape, dtype)
                    self.be.fill(arrays[name], state.init)
                    taken.append(arrays[name])
            layer.s = Named(arrays)
        return taken

    def _scratch_sizes(self, batch: int) -> list[int]:
        """Bytes of scratch at each depth; layers of one depth never run inside one another, so they share."""
        sizes: dict[int, int] = {}
        for depth, layer in with_depth(self.graph):
            states = declared_states(layer, *self.shapes[layer]).values()
            need = sum(
                padded_nbytes(*concrete(state, batch, self.be.dtype)) for state in states if state.scratch
            )
            sizes[depth] = max(sizes.get(depth, 0), need)
        return [sizes[depth] for depth in sorted(sizes)]

    def _unbind(self) -> None:
        """Drop all state except persistent state, and what `on_bind` made of it."""
        for layer, name, before in self._derived:
            if before is ABSENT:
                vars(layer).pop(name, None)
            else:
                vars(layer)[name] = before
        self._derived = []
        for layer in self.graph.walk():
            states = declared_states(layer, *self.shapes[layer])
            layer.s = Named({name: layer.s[name] for name, state in states.items() if state.persistent})

    def call_on_bind(self) -> None:
        """Call each layer's `on_bind`; note the attributes that it sets to arrays, for `resize` to free."""
        for layer in self.graph.walk():
            before = dict(vars(layer))
            layer.on_bind()
            for name, value in vars(layer).items():
                if (old := before.get(name, ABSENT)) is not value and holds(value, type(self.y)):
                    self._derived.append((layer, name, old))

    def bare_graph(self) -> Layer:
        """A clone of the graph without the attributes that `on_bind` made of this memory."""
        graph = self.graph.clone()
        clones = dict(zip(self.graph.walk(), graph.walk(), strict=True))
        for layer, name, _ in self._derived:
            vars(clones[layer]).pop(name, None)
        return graph

    def keep_state(self) -> None:
        """Save the persistent state in memory."""
        if self.persistent:
            self.be.copy(self._state, self._kept)

    def restore_state(self, verdict: Array | None = None) -> None:
        """Go back to the persistent state that `keep_state` saved; given a verdict, if that is "refused"."""
        if not self.persistent:
            return
        if verdict is None:
            self.be.copy(self._kept, self._state)
        else:
            self.be.take_back(self._kept, self._state, verdict)

    @property
    def nbytes_of_batch(self) -> int:
        """Bytes of what depends on the batch size."""
        return sum(array.nbytes for array in self._of_batch)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        lasting = [self.flat_params, self.flat_grads, self._state, self._kept]
        return sum(array.nbytes for array in lasting) + self.nbytes_of_batch


def padded_nbytes(shape: Shape, dtype: np.dtype) -> int:
    """Bytes that an array takes in a buffer, to the end of its last cache line."""
    return -(-math.prod(shape) * dtype.itemsize // LINE) * LINE


def carve(buffer: Array, start: int, shape: Shape, dtype: np.dtype) -> tuple[Array, int]:
    """An array in a byte buffer, from `start` on, and where the next one starts."""
    end = start + math.prod(shape) * dtype.itemsize
    return buffer[start:end].view(dtype).reshape(shape), start + padded_nbytes(shape, dtype)


def new_bytes(size: int) -> np.ndarray:
    """Uninitialised memory for `aligned`; `minet check` puts guard pages around it."""
    return np.empty(size, np.uint8)


def aligned(shape: Shape, dtype: np.dtype) -> np.ndarray:
    """An uninitialised NumPy array that starts on a cache line."""
    size = math.prod(shape) * dtype.itemsize
    try:
        raw = new_bytes(size + LINE - 1)  # not one more: a guard page may follow
    except (ValueError, OverflowError):  # more than NumPy can count
        raise MemoryError(f"unable to allocate {size:.3g} bytes") from None
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def concrete(state: State, batch: int, default: np.dtype) -> tuple[Shape, np.dtype]:
    """Shape and dtype that a State has in a net of that batch size and floating type."""
    per_sample = state.per_sample and not state.persistent
    shape = (*state.shape, batch) if per_sample else tuple(state.shape)
    return shape, np.dtype(state.dtype) if state.dtype else default


def holds(value: Any, kind: type) -> bool:
    """Whether a value is an array of that kind, or a dict, list or tuple that contains one."""
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, kind) or (
        isinstance(value, dict | list | tuple) and any(isinstance(item, kind) for item in items)
    )


def tied(layer: Layer, in_shape: Shape, here: Iterable[Layer]) -> tuple[Named, Named]:
    """The arrays that a twin shares with the layer it was made from."""
    original = layer.tied
    assert original is not None
    if original not in set(here):
        raise layer.error(
            "the original of this twin is not in this net", "add the layer whose weights it shares"
        )
    for name, param in declared_params(layer, in_shape).items():
        if tuple(param.shape) != original.p[name].shape:
            raise layer.error(
                f"shares {name} of shape {original.p[name].shape} with {original.where}, needs {param.shape}"
            )
    return original.p, original.g


def shape_of(values: Any) -> Shape:
    """The shape of an array, including one in a GPU's memory with a ``__cuda_array_interface__``."""
    offer = getattr(values, "__cuda_array_interface__", None)
    return tuple(offer["shape"]) if offer else np.shape(values)
