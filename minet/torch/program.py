"""A graph of layers that computes on arrays handed to each call, so that calls of one module share nothing.

A Net owns its arrays. Here they are tensors: parameters and running statistics are the module's, what bprop
needs of its fprop is a tensor of bytes that autograd keeps (`kept`), and scratch is borrowed for a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet.backends import Backend, get
from minet.core import rng
from minet.core.blame import blaming
from minet.core.containers import Sequential
from minet.core.declared import declared_params, declared_states
from minet.core.graph import shapes_of, with_depth
from minet.core.layer import Layer, Param, Shape, State
from minet.core.memory import aligned, carve, concrete, padded_nbytes, tied
from minet.core.node import Named


@dataclass(frozen=True)
class Kept:
    """A layer's state in `kept`: from byte ``start + batch * start_each`` on."""

    layer: Layer
    name: str
    state: State
    start: int
    start_each: int

    def array(self, kept: np.ndarray, batch: int, default: np.dtype) -> np.ndarray:
        """Its array in the bytes."""
        shape, dtype = concrete(self.state, batch, default)
        found: np.ndarray = carve(kept, self.start + batch * self.start_each, shape, dtype)[0]
        return found

    def clear(self, be: Backend, kept: np.ndarray, batch: int) -> None:
        """Set its bytes to 0, so that they are alike in two calls even where the layer writes none.

        Of a Sequential's activations, all of which are written, the gaps behind them will do.
        """
        begin = self.start + batch * self.start_each
        size = padded_nbytes(*concrete(self.state, 1, be.dtype)) * (batch if _is_each(self.state) else 1)
        array = self.array(kept, batch, be.dtype)
        be.fill(kept[begin + (array.nbytes if isinstance(self.layer, Sequential) else 0) : begin + size], 0)


class Program:
    """A clone of a graph, on inputs of one shape, for any batch size.

    Parameters
    ----------
    graph : Layer
        With its paths; it is cloned.
    in_shape : (C, H, W)
    be : Backend

    Attributes
    ----------
    params : list of (Layer, str, Param)
        In forward order, those of twins left out.
    running : list of Kept
        Persistent state, at the beginning of `kept`.
    fixed, each : int
        Bytes of `kept` for the net, and for each sample; both end with a cache line.

    Raises
    ------
    LayerError
        If the shape does not fit the layers.
    """

    def __init__(self, graph: Layer, in_shape: Shape, be: Backend) -> None:
        self.be, self.clock, self.in_shape = be, rng.Clock(), in_shape
        self.graph = graph.clone()
        for old, new in zip(graph.walk(), self.graph.walk(), strict=True):
            new.path, new.placed = old.path, True
        layers = list(self.graph.walk())
        with blaming():
            self.out_shape = self.graph.configure(in_shape)
            self.shapes = shapes_of(self.graph, in_shape)
            for layer in layers:
                layer.be, layer.clock, layer.bound_shapes = be, self.clock, self.shapes[layer]
                layer.key = rng.layer_key(0, layer.full_path)
                layer.p, layer.g, layer.s = Named(), Named(), Named()
            self.params: list[tuple[Layer, str, Param]] = [
                (layer, name, param)
                for layer in layers
                if not layer.tied
                for name, param in declared_params(layer, self.shapes[layer][0]).items()
            ]
            self._place_states()
        for layer in layers:
            layer.bound = True

    def _place_states(self) -> None:
        """Find each state's place: persistent ones first, then those of the net, then those of samples."""
        found = [
            (depth, layer, name, state)
            for depth, layer in with_depth(self.graph)
            for name, state in declared_states(layer, *self.shapes[layer]).items()
        ]
        self._scratch = [item for item in found if item[3].scratch and not item[3].persistent]
        lasting = [item[1:] for item in found if item[3].persistent or not item[3].scratch]
        lasting.sort(key=lambda item: (not item[2].persistent, item[2].per_sample))  # stable
        self.fixed = self.each = 0
        self._kept: list[Kept] = []
        for layer, name, state in lasting:
            each = _is_each(state)
            self._kept.append(Kept(layer, name, state, self.fixed, self.each))
            size = padded_nbytes(*concrete(state, 1, self.be.dtype))
            self.fixed, self.each = (self.fixed, self.each + size) if each else (self.fixed + size, self.each)
        self._kept = [
            Kept(k.layer, k.name, k.state, self.fixed, k.start_each) if _is_each(k.state) else k
            for k in self._kept
        ]
        self.running = [kept for kept in self._kept if kept.state.persistent]

    def bind(
        self,
        batch: int,
        params: Sequence[Any],
        grads: Sequence[Any],
        kept: np.ndarray,
        scratch: np.ndarray,
    ) -> None:
        """Give each layer its arrays for one call.

        Parameters
        ----------
        params, grads : sequences of array
            In the order of `params`; `grads` may be empty in an fprop.
        kept, scratch : array of uint8
            ``fixed + batch * each`` bytes, and ``scratch_size(batch)``.
        """
        layers, dtype = list(self.graph.walk()), self.be.dtype
        values: dict[Layer, dict[str, Any]] = {layer: {} for layer in layers}
        slopes: dict[Layer, dict[str, Any]] = {layer: {} for layer in layers}
        states: dict[Layer, dict[str, Any]] = {layer: {} for layer in layers}
        for i, (layer, name, _) in enumerate(self.params):
            values[layer][name] = params[i]
            if grads:
                slopes[layer][name] = grads[i]
        for place in self._kept:
            states[place.layer][place.name] = place.array(kept, batch, dtype)
        for layer, name, start, shape, kind in self._places(batch):
            states[layer][name] = carve(scratch, start, shape, kind)[0]
        for layer in layers:
            layer.p, layer.g, layer.s = (Named(arrays[layer]) for arrays in (values, slopes, states))
        for layer in layers:
            if layer.tied:
                layer.p, layer.g = tied(layer, self.shapes[layer][0], layers)
        for layer in layers:
            layer.on_bind()

    def release(self) -> None:
        """Let go of the arrays of a call, which would keep their memory until the next one."""
        for layer in self.graph.walk():
            layer.p, layer.g, layer.s = Named(), Named(), Named()
            if isinstance(layer, Sequential):
                layer._ys, layer._dys = [], []

    def attach(self, params: Sequence[np.ndarray], running: Sequence[np.ndarray]) -> None:
        """Bind the layers for good, one sample at a time, to these arrays and to memory of their own."""
        kept, scratch = (self.be.zeros((n,), "uint8") for n in (self.fixed + self.each, self.scratch_size(1)))
        self.bind(1, params, [self.be.zeros(p.shape, p.dtype) for p in params], kept, scratch)
        for place, array in zip(self.running, running, strict=True):
            place.layer.s = Named({**place.layer.s, place.name: array})

    def _places(self, batch: int) -> Iterator[tuple[Layer, str, int, Shape, np.dtype]]:
        """Yield each scratch array and where it starts; layers of one depth share their memory."""
        sizes = self._depths(batch)
        starts = {depth: sum(size for other, size in sizes.items() if other < depth) for depth in sizes}
        used: dict[Layer, int] = {}
        for depth, layer, name, state in self._scratch:
            shape, dtype = concrete(state, batch, self.be.dtype)
            yield layer, name, starts[depth] + used.get(layer, 0), shape, dtype
            used[layer] = used.get(layer, 0) + padded_nbytes(shape, dtype)

    def _depths(self, batch: int) -> dict[int, int]:
        """Bytes of scratch by depth: those of its greediest layer."""
        ends: dict[Layer, int] = {}
        sizes: dict[int, int] = {}
        for depth, layer, _, state in self._scratch:
            ends[layer] = ends.get(layer, 0) + padded_nbytes(*concrete(state, batch, self.be.dtype))
            sizes[depth] = max(sizes.get(depth, 0), ends[layer])
        return sizes

    def scratch_size(self, batch: int) -> int:
        """Bytes of scratch."""
        return sum(self._depths(batch).values())

    def start(self, batch: int, running: Sequence[np.ndarray], kept: np.ndarray) -> None:
        """Write into `kept` what a layer may read before it writes it, and clear what it may not write."""
        for place in self._kept:
            place.clear(self.be, kept, batch)
        for place, value in zip(self.running, running, strict=True):
            self.be.copy(value, place.array(kept, batch, self.be.dtype))
        for place in self._kept[len(self.running) :]:
            if place.state.init and not place.state.per_sample:
                self.be.fill(place.array(kept, batch, self.be.dtype), place.state.init)

    def fprop(self, x: Any, y: Any, train: bool, step: int) -> None:
        """``y <- f(x)``, on bound arrays."""
        self.clock.step = step
        with blaming(), np.errstate(all="ignore"):
            self.graph.fprop(x, y, 0.0, train)

    def bprop(self, x: Any, dy: Any, dx: Any, train: bool, step: int) -> None:
        """``dx <- J^T dy``, and gradients added, on arrays bound as in the fprop of that x."""
        self.clock.step = step
        for layer in self.graph.walk():
            layer.train = train
        with blaming(), np.errstate(all="ignore"):
            self.graph.bprop(x, dy, dx, 0.0)


def draws(graph: Layer, in_shape: Shape) -> bool:
    """Whether a training fprop draws random numbers: whether it reads the step, as tried on two samples."""
    program = Program(graph, in_shape, get("cpu"))
    be, kept = program.be, np.zeros(program.fixed + 2 * program.each, np.uint8)
    program.start(2, [np.full(k.state.shape, k.state.init, k.state.dtype) for k in program.running], kept)
    params = [be.zeros(param.shape) for _, _, param in program.params]
    x, y = be.zeros((*in_shape, 2)), be.zeros((*program.out_shape, 2))
    with borrowed(be, program.scratch_size(2)) as scratch:
        program.bind(2, params, [], kept, scratch)
        program.fprop(x, y, True, 0)
    return program.clock.read


def _is_each(state: State) -> bool:
    return state.per_sample and not state.persistent


_free: list[np.ndarray] = []  # buffers that no call uses now; appending and popping are atomic


@contextmanager
def borrowed(be: Backend, size: int) -> Iterator[np.ndarray]:
    """Yield `size` bytes from a cache line on, which calls of all modules take turns to use.

    Fresh pages cost more than writing to them. Calls that run at the same time, in other threads or inside
    one another, get different ones. On a card PyTorch does that already.
    """
    if be.name == "cuda":
        yield be.empty((size,), "uint8")
        return
    try:
        buffer = _free.pop()
    except IndexError:
        buffer = np.empty(0, np.uint8)
    if len(buffer) < size:
        buffer = aligned((size,), np.dtype(np.uint8))
    try:
        yield buffer[:size]
    finally:
        _free.append(buffer)
