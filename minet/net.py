"""Net: a graph of layers bound to memory, a batch size, a backend and a loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet import backends, rng
from minet.containers import Sequential
from minet.errors import MinetError
from minet.finite import NotFiniteError, first_not_finite
from minet.graph import place_all, shapes_of, with_depth
from minet.layer import Array, Layer, LayerError, Named, Param, Shape, State

ALIGN = 16  # elements; every array in a shared buffer starts on a cache line


@dataclass
class Slot:
    """One parameter of a net: its path, its declaration, its value and its gradient."""

    path: str
    param: Param
    value: Array
    grad: Array


class Net:
    """A graph of layers with all its memory.

    Parameters
    ----------
    graph : Layer or list
        A layer, most often a Sequential; a list is taken as one. The net binds these very objects.
    input_shape : tuple of int
        ``(C, H, W)`` of one sample.
    batch : int
        N, the number of samples in a step.
    loss : Loss, optional
        Needed by `train_step`.
    backend : str
        "cpu", or "auto" for the best there is.
    seed : int
        32 bits; decides initial values and, with the step, every random draw.
    dtype : str
        "float32", or "float64" for gradient checks on the cpu.

    Attributes
    ----------
    params, grads : dict of str to array
        By path, such as ``"2/1/gaussian_pool.mean"``: views of the net's own memory.
    persistent : dict of str to array
        State that belongs to a checkpoint, such as running statistics, by path.
    clock : Clock
        ``clock.step`` counts the training steps done.

    Raises
    ------
    LayerError
        If shapes do not fit, or if a layer object is used twice; nothing is allocated then.
    """

    def __init__(
        self,
        graph: Layer | Iterable[Any],
        input_shape: Shape,
        batch: int,
        loss: Any = None,
        backend: str = "cpu",
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        self.graph: Layer = graph if isinstance(graph, Layer) else Sequential(*graph)
        self.input_shape, self.loss, self.seed = tuple(input_shape), loss, seed
        place_all(self.graph)
        self.output_shape = self.graph.configure(self.input_shape)
        self.shapes = shapes_of(self.graph, self.input_shape)
        self.be = backends.get(backend, dtype)
        self.clock = rng.Clock()
        self._bind_params()
        self.resize(batch)

    # -- memory ---------------------------------------------------------------------------------

    def _bind_params(self) -> None:
        """Allocate what does not depend on the batch size: parameters, gradients, persistent state."""
        keys = {layer: rng.layer_key(self.seed, layer.full_path) for layer in self.graph.walk()}
        declared = {layer: {} if layer.tied else layer.params(self.shapes[layer][0]) for layer in keys}
        sizes = [_aligned(math.prod(p.shape)) for params in declared.values() for p in params.values()]
        self.flat_params, self.flat_grads = self.be.zeros((sum(sizes),)), self.be.zeros((sum(sizes),))
        self.slots: list[Slot] = []
        self.persistent: dict[str, Array] = {}
        start = 0
        for layer, key in keys.items():
            layer.be, layer.clock, layer.key = self.be, self.clock, key
            layer.p, layer.g, layer.s, layer.bound = Named(), Named(), Named(), True
            for name, param in declared[layer].items():
                part = slice(start, start + math.prod(param.shape))
                start += _aligned(math.prod(param.shape))
                value, grad = (
                    flat[part].reshape(param.shape) for flat in (self.flat_params, self.flat_grads)
                )
                path = f"{layer.full_path}.{name}"
                self.be.copy(_initial(layer, name, param, rng.generator(self.seed, path)), value)
                layer.p[name], layer.g[name] = value, grad
                self.slots.append(Slot(path, param, value, grad))
            for name, state in layer.state(*self.shapes[layer]).items():
                if state.persistent:
                    layer.s[name] = self.be.empty(state.shape, state.dtype)
                    self.be.fill(layer.s[name], state.init)
                    self.persistent[f"{layer.full_path}.{name}"] = layer.s[name]
        for layer in keys:
            if layer.tied:
                layer.p, layer.g = _tied(layer, self.shapes[layer][0], keys)
        self.params = {slot.path: slot.value for slot in self.slots}
        self.grads = {slot.path: slot.grad for slot in self.slots}

    def resize(self, batch: int) -> None:
        """Bind to another batch size: new activations, the same parameters and running statistics."""
        if int(batch) != batch or batch < 1:
            raise MinetError(f"batch must be a whole number of at least 1, got {batch!r}")
        self.batch = int(batch)
        self.y = self.be.zeros((*self.output_shape, self.batch))
        self.dy = self.be.zeros(self.y.shape)
        scratch = [self.be.empty((size,), "uint8") for size in self._scratch_sizes()]
        for depth, layer in with_depth(self.graph):
            start = 0
            for name, state in layer.state(*self.shapes[layer]).items():
                if state.persistent:
                    continue
                shape, dtype = self._concrete(state)
                if state.scratch:
                    end = start + math.prod(shape) * dtype.itemsize
                    layer.s[name] = scratch[depth][start:end].view(dtype).reshape(shape)
                    start = _aligned(end, 64)
                else:
                    layer.s[name] = self.be.empty(shape, dtype)
                    self.be.fill(layer.s[name], state.init)
        for layer in self.graph.walk():
            layer.on_bind()

    def _concrete(self, state: State) -> tuple[Shape, np.dtype]:
        shape = (*state.shape, self.batch) if state.per_sample else tuple(state.shape)
        return shape, np.dtype(state.dtype) if state.dtype else self.be.dtype

    def _scratch_sizes(self) -> list[int]:
        """Bytes of scratch for each depth: layers of one depth never run inside one another, and share."""
        sizes: dict[int, int] = {}
        for depth, layer in with_depth(self.graph):
            need = 0
            for state in layer.state(*self.shapes[layer]).values():
                if state.scratch:
                    shape, dtype = self._concrete(state)
                    need = _aligned(need + math.prod(shape) * dtype.itemsize, 64)
            sizes[depth] = max(sizes.get(depth, 0), need)
        return [sizes[depth] for depth in sorted(sizes)]

    # -- computation ----------------------------------------------------------------------------

    def fprop(self, x: Array, train: bool = False) -> Array:
        """The output ``(K, P, Q, N)`` for x ``(C, H, W, N)``, in the net's own memory until the next call."""
        expected = (*self.input_shape, self.batch)
        if tuple(x.shape) != expected:
            raise LayerError(
                f"the net takes x of shape (C, H, W, N) = {expected}, got {tuple(x.shape)}",
                "images in NCHW order go through predict(), or np.ascontiguousarray(x.transpose(1, 2, 3, 0))",
            )
        self.x = self.be.array(x)
        self.graph.fprop(self.x, self.y, 0.0, train)
        return self.y

    def bprop(self, dy: Array, dx: Array | None = None) -> None:
        """Set `grads`, and `dx` where one is given, for the x of the last fprop, from the output's delta."""
        self.be.fill(self.flat_grads, 0.0)
        self.graph.bprop(self.x, self.be.array(dy), dx, 0.0)

    def train_step(self, x: Array, labels: np.ndarray, solver: Any) -> float:
        """One step of training; the batch's mean loss, as it was before the step.

        Parameters
        ----------
        x : array (C, H, W, N)
        labels : array
            What the loss asks for: (N,) class numbers for SoftmaxCrossEntropy.
        solver : SGD

        Raises
        ------
        NotFiniteError
            If the loss or a gradient is not finite: names the layer, and leaves the parameters alone.
        """
        if self.loss is None:
            raise MinetError("this net has no loss to train with", "Net(..., loss=SoftmaxCrossEntropy())")
        self.loss.check(labels, self.output_shape, self.batch)
        y = self.fprop(x, train=True)
        loss: float = self.be.run(self.loss, "loss", y, labels, self.dy)
        if not math.isfinite(loss):
            found = f"the loss is {loss} at step {self.clock.step}: {first_not_finite(self)}"
            raise NotFiniteError(found, "lower the learning rate, or look at the data")
        self.bprop(self.dy)
        if not self.be.finite(self.flat_grads):
            bad = next((s.path for s in self.slots if not self.be.finite(s.grad)), "their sum")
            found = f"the gradient of {bad} is not finite at step {self.clock.step}"
            raise NotFiniteError(found, "lower the learning rate")
        solver.update(self)
        self.clock.step += 1
        return loss

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The outputs for any number M of images ``(M, C, H, W)``: ``(M, K)``, or ``(M, K, P, Q)`` for maps.

        The images must be scaled as in training: ``dataset.normalize(pixels)`` does it.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.input_shape:
            expected = ("M", *self.input_shape)
            raise LayerError(f"predict takes images (M, C, H, W) = {expected}, got {images.shape}")
        out = np.empty((len(images), *self.output_shape), self.be.dtype)
        x = np.zeros((*self.input_shape, self.batch), self.be.dtype)
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            x[..., : len(part)] = part.transpose(1, 2, 3, 0)
            y = self.be.get(self.fprop(x, train=False))
            out[start : start + len(part)] = y[..., : len(part)].transpose(3, 0, 1, 2)
        return out[:, :, 0, 0] if self.output_shape[1:] == (1, 1) else out

    def summary(self) -> str:
        """A table of the layers: path, settings, output shape, number of parameters; then the totals."""
        rows = [("path", "layer", "output (C, H, W)", "parameters")]
        for layer in self.graph.walk():
            if not layer.children:
                count = sum(value.size for value in layer.p.values())
                shape = "x".join(map(str, self.shapes[layer][1]))
                rows.append(
                    (layer.path, repr(layer), shape, "shared" if layer.tied and count else f"{count:,}")
                )
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip()
            for a, b, c, d in rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        total = sum(slot.value.size for slot in self.slots)
        size, mib = "x".join(map(str, self.input_shape)), self.nbytes / 2**20
        where = f"batch {self.batch}, {self.be.dtype}, {mib:.1f} MiB on {self.be.name}"
        return "\n".join([*lines, "", f"{total:,} parameters, input {size}, {where}"])

    @property
    def nbytes(self) -> int:
        """Bytes of all the memory that the net owns."""
        owned = [self.y, self.dy, self.flat_params, self.flat_grads]
        for layer in self.graph.walk():
            states = layer.state(*self.shapes[layer])
            owned += [layer.s[name] for name, state in states.items() if not state.scratch]
        return sum(a.nbytes for a in owned) + sum(self._scratch_sizes())


def _aligned(size: int, unit: int = ALIGN) -> int:
    return -(-size // unit) * unit


def _initial(layer: Layer, name: str, param: Param, generator: np.random.Generator) -> np.ndarray:
    values = param.init(param.shape, generator) if callable(param.init) else param.init
    try:
        return np.ascontiguousarray(np.broadcast_to(np.asarray(values, dtype=float), param.shape))
    except ValueError:
        raise layer.error(
            f"initial {name} of shape {np.shape(values)} does not fit {tuple(param.shape)}"
        ) from None


def _tied(layer: Layer, in_shape: Shape, here: Iterable[Layer]) -> tuple[Named, Named]:
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
