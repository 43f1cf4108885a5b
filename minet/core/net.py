"""Net: a graph of layers bound to memory, a batch size, a backend and a loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from minet import backends
from minet.core import arrays_file, drawing, rng
from minet.core.blame import blaming
from minet.core.capacity import check_capacity
from minet.core.containers import Sequential
from minet.core.errors import MinetError
from minet.core.given import checked_dy, not_real, predict
from minet.core.graph import assign_paths, shapes_of
from minet.core.layer import Array, Layer, Shape
from minet.core.loss import Loss
from minet.core.memory import Memory, shape_of
from minet.core.naming import mib
from minet.core.node import LayerError, Named
from minet.core.settings import checked_batch, plain
from minet.core.step import Started, Steps
from minet.core.summary import table


class Net:
    """A graph of layers with all its memory.

    Parameters
    ----------
    graph : Layer or list
        A layer, usually a Sequential; a list stands for one. The net binds these objects, not copies.
    input_shape : tuple of int
        ``(C, H, W)`` of one sample.
    batch : int
        N, the number of samples in a step.
    loss : Loss, optional
        Needed by `train_step`.
    backend : str or Backend
        "cpu", "cuda", "emu", or "auto" for the best available (`minet.backends.get`).
    seed : int
        32 bits; decides initial values and, with the step, every random draw.
    dtype : str
        "float32", or "float64" for gradient checks on the cpu.

    Attributes
    ----------
    params, grads : dict of str to array
        By path, such as ``"2/1/gaussian_pool.mean"``: views of the net's own memory.
    persistent : dict of str to array
        State that checkpoints save, such as running statistics, by path.
    lock : RLock
        Held while the net takes a step or predicts: its memory serves one thread at a time.
    clock : Clock
        ``clock.step`` counts the training steps done.
    steps : Steps
        ``steps.captured`` says whether a card replays a training step as a whole, ``steps.why`` why not.

    Raises
    ------
    LayerError
        If shapes do not fit, or a layer object is used twice; nothing is allocated then.
    """

    def __init__(
        self,
        graph: Layer | Iterable[Any],
        input_shape: Shape,
        batch: int,
        loss: Any = None,
        backend: str | backends.Backend = "cpu",
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        batch = checked_batch(batch)
        if not isinstance(graph, Layer):
            graph = Sequential(*(graph if isinstance(graph, Iterable) else [graph]))
        self.graph: Layer = graph
        sizes = input_shape if isinstance(input_shape, Iterable) else (input_shape,)
        self.input_shape = tuple(map(plain, sizes))
        self.seed = rng.layer_key(seed, "")[0]
        if loss is not None and not isinstance(loss, Loss):
            raise MinetError(f"loss must be a Loss such as SoftmaxCrossEntropy(), got {loss!r}")
        self.lock = RLock()
        assign_paths(self.graph)
        self.be = backends.get(backend, dtype)
        self.loss: Any = None if loss is None else loss.on(self.be)
        self.clock = rng.Clock()
        self.x: Array = None
        self.y: Array = None
        self.dy: Array = None
        with blaming():
            self.output_shape = self.graph.configure(self.input_shape)
            self.shapes = shapes_of(self.graph, self.input_shape)
            for layer in self.graph.walk():
                layer.be, layer.clock, layer.key = self.be, self.clock, rng.layer_key(seed, layer.full_path)
                layer.bound_shapes = self.shapes[layer]
                layer.p, layer.g, layer.s = Named(), Named(), Named()
            check_capacity(self.be, self.graph, self.shapes, batch, copies=3 if loss else 2)
            self.memory = Memory(self.be, self.graph, self.shapes, self.seed)
        self.slots, self.flat_grads = self.memory.slots, self.memory.flat_grads
        self.params = Named({slot.path: slot.value for slot in self.slots})
        self.grads = Named({slot.path: slot.grad for slot in self.slots})
        self.persistent = Named(self.memory.persistent)
        self.steps = Steps(self)
        self.resize(batch)
        for layer in self.graph.walk():
            layer.bound = True  # only now: a net that cannot be made leaves its layers free

    @property
    def batch(self) -> int:
        """N, the number of samples in a step; `resize` changes it."""
        return self._batch

    @batch.setter
    def batch(self, batch: int) -> None:
        # Kernels go through N samples, whatever the arrays hold.
        raise MinetError("setting net.batch would not change its memory", f"net.resize({batch!r:.60})")

    def resize(self, batch: int) -> None:
        """Change the batch size: new activations, the same parameters and running statistics."""
        batch = checked_batch(batch)
        self.steps.settle()
        check_capacity(self.be, self.graph, self.shapes, batch, held=self.memory.nbytes_of_batch)
        self.steps = Steps(self)
        self._batch, self.x, self.y, self.dy = batch, None, None, None  # freed before the new ones are made
        self.clock.batch = batch
        self.memory.resize(batch)
        self.y, self.dy = self.memory.y, self.memory.dy
        with blaming():
            self.memory.call_on_bind()

    def __deepcopy__(self, memo: dict[int, Any]) -> Net:
        """A net of its own, with the same settings, parameters, running statistics and step."""
        self.steps.settle()
        other = _rebuilt(*self._made(self.be), {**self.params, **self.persistent}, self.clock.now)
        memo[id(self)] = other
        memo |= {id(a): b for a, b in zip(self.graph.walk(), other.graph.walk(), strict=True)}
        return other

    def __reduce__(self) -> Any:
        self.steps.settle()
        kept = {**self.params, **self.persistent}
        values = {path: np.array(self.be.get(value)) for path, value in kept.items()}
        return _rebuilt, (*self._made(self.be.name), values, self.clock.now)

    def _made(self, backend: Any) -> tuple[type[Net], tuple[Any, ...]]:
        """What makes a net like this one, on layers of its own."""
        graph, dtype = self.memory.bare_graph(), self.be.dtype.name
        return type(self), (graph, self.input_shape, self.batch, self.loss, backend, self.seed, dtype)

    # -- what has been learned ------------------------------------------------------------------

    def __getitem__(self, path: str) -> Layer:
        """The layer at a path: ``net["2/1"]`` or, with its stem, ``net["2/1/gaussian_pool"]``."""
        layers = Named()
        for layer in self.graph.walk():
            layers |= {layer.path: layer, layer.full_path: layer}
        return layers[path]

    def save(self, file: str | Path) -> None:
        """Write parameters, persistent state and step to a safetensors file, whole or not at all."""
        self.steps.settle()
        arrays_file.save(file, self)

    def load(self, file: str | Path | Mapping[str, np.ndarray], partial: bool = False) -> list[str]:
        """Read what `save` has written, or a run's checkpoint; if it does not fit, the net stays as it was.

        Arrays by path are read as a file's are. With `partial`, all that fit by path and shape are read, but
        not the step. Returns a line for each array, there or in the net, that was left out; one must fit.
        """
        self.steps.settle()
        return arrays_file.load(file, self, partial)

    # -- computation ----------------------------------------------------------------------------

    def fprop(self, x: Array, train: bool = False) -> Array:
        """The output ``(K, P, Q, N)`` for x ``(C, H, W, N)``, in the net's memory until the next call."""
        self.check_shape(x)
        self.steps.settle()
        # A copy: the caller may overwrite x before bprop reads it, and x may be this net's own y.
        try:
            self.be.copy(x, self.memory.x)
        except TypeError as error:
            raise not_real("the net takes x", x) from error
        return self._fprop(self.memory.x, train)

    def _fprop(self, x: Array, train: bool) -> Array:
        self.x = x
        with blaming():
            self.graph.fprop(x, self.y, 0.0, train)
        return self.y

    def check_shape(self, x: Array, batch: int | None = None) -> None:
        """Raise if x is no batch of this net, or none of so many images."""
        expected = (*self.input_shape, batch or self.batch)
        if shape_of(x) != expected:
            raise LayerError(
                f"the net takes x of shape (C, H, W, N) = {expected}, got {shape_of(x)}",
                "for images in NCHW order: predict(), or np.ascontiguousarray(x.transpose(1, 2, 3, 0))",
            )

    def bprop(self, dy: Array, dx: Array | None = None) -> None:
        """Compute `grads`, and `dx` if given, from the output's delta, for the x of the last fprop."""
        self.steps.settle()
        if self.x is None:
            raise MinetError("bprop was called before fprop", "call net.fprop(x, train=True) first")
        self._bprop(checked_dy(self, dy, dx), dx)

    def _bprop(self, dy: Array, dx: Array | None = None) -> None:
        self.be.fill(self.flat_grads, 0.0)
        with blaming():
            self.graph.bprop(self.x, dy, dx, 0.0)

    def train_step(self, x: Array, labels: np.ndarray, solver: Any) -> float:
        """Take one training step; return the batch's mean loss from before the update.

        It waits for the step. `start_step` does not: ``net.start_step(...).loss()`` is the same.

        Parameters
        ----------
        x : array (C, H, W, N)
        labels : array
            What the loss expects: (N,) class numbers for SoftmaxCrossEntropy.
        solver : SGD

        Raises
        ------
        NotFiniteError
            If the loss or a gradient is not finite. It names the layer; parameters and running statistics
            stay as they were.
        """
        return self.start_step(x, labels, solver).loss()

    def start_step(self, x: Array, labels: np.ndarray, solver: Any) -> Started:
        """Start a training step, as `train_step` does; on a card it runs while the host makes the next batch.

        Its ``loss()`` waits for it, and raises if it was refused. Until then x and labels must stay as they
        are. A step that is refused changes nothing, and nor do those that were started after it. Whatever
        else uses the net first waits for all steps.
        """
        if self.loss is None:
            raise MinetError("this net has no loss to train with", "Net(..., loss=SoftmaxCrossEntropy())")
        if isinstance(solver, type) or not callable(getattr(solver, "update", None)):
            raise MinetError(f"train_step takes a solver such as SGD(0.01), got {solver!r}")
        with self.lock:
            if isinstance(labels, list):
                labels = np.asarray(labels)
            with blaming():
                self.steps.check(x, labels)
            return self.steps.start(x, labels, solver)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Outputs for any number M of images ``(M, C, H, W)``: ``(M, K)``, or ``(M, K, P, Q)`` for maps.

        A single image ``(C, H, W)`` gives ``(K,)`` or ``(K, P, Q)``. Scale the images as in training, with
        ``dataset.normalize(pixels)``. Several threads may call it: one waits for the other.
        """
        return predict(self, images)

    def __str__(self) -> str:
        return self.summary()

    def _repr_svg_(self) -> str:
        return drawing.net(self.graph, self.shapes)  # in a notebook

    def summary(self) -> str:
        """A table of the layers: path, settings, output, slice of a Concat, parameters; then the totals."""
        where = f"batch {self.batch}, {self.be.dtype}, {mib(self.nbytes)} on {self.be.name}"
        if self.loss:
            where += f", {mib(self.peak_nbytes)} while training"
        return table(self.be, self.graph, self.shapes, where)

    @property
    def nbytes(self) -> int:
        """Bytes of all memory that the net owns."""
        return self.memory.nbytes

    @property
    def peak_nbytes(self) -> int:
        """Bytes that a training step takes: the net's, a solver's velocities, the backend's own."""
        return self.nbytes + self.memory.flat_params.nbytes + int(self.be.own_memory)


def _rebuilt(cls: type[Net], made: tuple[Any, ...], values: dict[str, Array], step: int) -> Net:
    """A net with the values of another, in memory of its own."""
    net = cls(*made)
    for path, target in {**net.params, **net.persistent}.items():
        net.be.copy(values[path], target)
    net.clock.step = step
    return net
