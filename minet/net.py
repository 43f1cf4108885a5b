"""Net: a graph of layers bound to memory, a batch size, a backend and a loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minet import backends, rng
from minet.blame import blaming
from minet.containers import Sequential
from minet.errors import MinetError
from minet.finite import NotFiniteError, first_not_finite
from minet.graph import place_all, shapes_of
from minet.layer import Array, Layer, LayerError, Named, Shape
from minet.loss import Loss
from minet.memory import (
    Derived,
    Slot,
    all_states,
    bind_states,
    check_room,
    checked_batch,
    concrete,
    declared_params,
    first_value,
    mib,
    place,
    room,
    shape_of,
    tied,
    told_bound,
    unbind_states,
)


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
    backend : str or Backend
        "cpu", "cuda", "emu", or "auto" for the best there is (`minet.backends.get`).
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
        backend: str | backends.Backend = "cpu",
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        self.batch = checked_batch(batch)
        if not isinstance(graph, Layer):
            graph = Sequential(*(graph if isinstance(graph, Iterable) else [graph]))
        self.graph: Layer = graph
        self.input_shape = tuple(input_shape) if isinstance(input_shape, Iterable) else (input_shape,)
        self.loss, self.seed = loss, rng.layer_key(seed, "")[0]
        if loss is not None and not isinstance(loss, Loss):
            raise MinetError(f"loss must be one such as SoftmaxCrossEntropy(), got {loss!r}")
        place_all(self.graph)
        self.be = backends.get(backend, dtype)
        self.clock = rng.Clock()
        self.x: Array = None
        self.y: Array = None
        self.dy: Array = None
        self._of_batch: list[Array] = []  # the memory that depends on the batch size
        self._derived: list[Derived] = []
        with blaming():
            self.output_shape = self.graph.configure(self.input_shape)
            self.shapes = shapes_of(self.graph, self.input_shape)
            self._bind_params()
            self._bind_persistent()
        self.resize(batch)
        for layer in self.graph.walk():
            layer.bound = True  # and not before: a net that cannot be made leaves its layers free

    # -- memory ---------------------------------------------------------------------------------

    def _bind_params(self) -> None:
        """Allocate parameters and gradients, each of them in one buffer."""
        keys = {layer: rng.layer_key(self.seed, layer.full_path) for layer in self.graph.walk()}
        for layer, key in keys.items():
            layer.be, layer.clock, layer.key = self.be, self.clock, key
            layer.bound_shapes = self.shapes[layer]
            layer.p, layer.g, layer.s = Named(), Named(), Named()
        check_room(self.be, self.graph, self.shapes, self.batch, copies=3 if self.loss else 2)
        declared = [
            (layer, name, param)
            for layer in keys
            if not layer.tied
            for name, param in declared_params(layer, self.shapes[layer][0]).items()
        ]
        itemsize = self.be.dtype.itemsize
        size = sum(room(param.shape, self.be.dtype) for *_, param in declared) // itemsize
        self.flat_params, self.flat_grads = self.be.zeros((size,)), self.be.zeros((size,))
        self.slots: list[Slot] = []
        start = 0
        for layer, name, param in declared:
            path, part = f"{layer.full_path}.{name}", slice(start, start + math.prod(param.shape))
            start += room(param.shape, self.be.dtype) // itemsize
            value, grad = (flat[part].reshape(param.shape) for flat in (self.flat_params, self.flat_grads))
            self.be.copy(first_value(layer, name, param, rng.generator(self.seed, path)), value)
            layer.p[name], layer.g[name] = value, grad
            self.slots.append(Slot(path, param, value, grad))
        for layer in keys:
            if layer.tied:
                layer.p, layer.g = tied(layer, self.shapes[layer][0], keys)
        self.params = Named({slot.path: slot.value for slot in self.slots})
        self.grads = Named({slot.path: slot.grad for slot in self.slots})

    def _bind_persistent(self) -> None:
        """Allocate persistent state, and as much again for `train_step` to take a step back."""
        kept = [found for found in all_states(self.graph, self.shapes) if found[2].persistent]
        size = sum(room(*concrete(state, 0, self.be.dtype)) for *_, state in kept)
        self._flat, self._before = self.be.zeros((size,), "uint8"), self.be.zeros((size,), "uint8")
        self.persistent: dict[str, Array] = {}
        start = 0
        for layer, name, state in kept:
            if name in layer.p:
                raise layer.error(f"{name!r} names a parameter and persistent state too", "rename one")
            array, start = place(self._flat, start, *concrete(state, 0, self.be.dtype))
            self.be.fill(array, state.init)
            layer.s[name] = self.persistent[f"{layer.full_path}.{name}"] = array

    def resize(self, batch: int) -> None:
        """Bind to another batch size: new activations, the same parameters and running statistics."""
        batch = checked_batch(batch)
        held = sum(array.nbytes for array in self._of_batch)
        check_room(self.be, self.graph, self.shapes, batch, held=held)
        self.batch = batch
        self.x = self.y = self.dy = None  # gone before there are new ones: the device need not hold both
        self._of_batch = []
        unbind_states(self.graph, self.shapes, self._derived)
        self._of_batch += bind_states(self.be, self.graph, self.shapes, batch)
        self.y, self.dy = (self.be.zeros((*self.output_shape, batch)) for _ in range(2))
        self._of_batch += [self.y, self.dy]
        with blaming():
            self._derived = told_bound(self.graph, type(self.y))

    # -- computation ----------------------------------------------------------------------------

    def fprop(self, x: Array, train: bool = False) -> Array:
        """The output ``(K, P, Q, N)`` for x ``(C, H, W, N)``, in the net's own memory until the next call."""
        expected = (*self.input_shape, self.batch)
        if shape_of(x) != expected:
            raise LayerError(
                f"the net takes x of shape (C, H, W, N) = {expected}, got {shape_of(x)}",
                "images in NCHW order go through predict(), or np.ascontiguousarray(x.transpose(1, 2, 3, 0))",
            )
        self.x = self.be.array(x)
        with blaming():
            self.graph.fprop(self.x, self.y, 0.0, train)
        return self.y

    def bprop(self, dy: Array, dx: Array | None = None) -> None:
        """Set `grads`, and `dx` where one is given, for the x of the last fprop, from the output's delta."""
        if self.x is None:
            raise MinetError("bprop before fprop", "net.fprop(x, train=True) comes first")
        dy = self.be.array(dy)
        for name, given, like in (("dy", dy, self.y), ("dx", dx, self.x)):
            if given is not None and (given.shape, given.dtype) != (like.shape, like.dtype):
                what, got = f"{like.shape} of {like.dtype}", f"{given.shape} of {given.dtype}"
                raise MinetError(f"{name} must be {what}, got {got}")
        if dx is not None and not dx.flags.c_contiguous:
            raise MinetError("dx must be C-contiguous", "np.empty(x.shape, x.dtype) is")
        self.be.fill(self.flat_grads, 0.0)
        with blaming():
            self.graph.bprop(self.x, dy, dx, 0.0)

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
            If the loss or a gradient is not finite: names the layer, and leaves parameters and running
            statistics as they were.
        """
        if self.loss is None:
            raise MinetError("this net has no loss to train with", "Net(..., loss=SoftmaxCrossEntropy())")
        if not callable(getattr(solver, "update", None)):
            raise MinetError(f"train_step takes a solver such as SGD(0.01), got {solver!r}")
        self.loss.check(labels, self.output_shape, self.batch)
        with np.errstate(all="ignore"):  # what overflows is found below, and told with its place
            return self._train_step(x, labels, solver)

    def _train_step(self, x: Array, labels: np.ndarray, solver: Any) -> float:
        if self.persistent:
            self.be.copy(self._flat, self._before)
        y = self.fprop(x, train=True)
        loss: float = self.be.run(self.loss, "loss", y, labels, self.dy)
        if not math.isfinite(loss):
            raise self._step_back(f"the loss is {loss}", *first_not_finite(self))
        self.bprop(self.dy)
        if not self.be.finite(self.flat_grads):
            bad = (f"the gradient of {s.path} is" for s in self.slots if not self.be.finite(s.grad))
            found = next(bad, "the sum of the gradients is")
            raise self._step_back(f"{found} not finite", "", "lower the learning rate")
        solver.update(self)
        self.clock.step += 1
        return loss

    def _step_back(self, what: str, where: str, hint: str) -> NotFiniteError:
        if self.persistent:
            self.be.copy(self._before, self._flat)
        return NotFiniteError(f"{what} at step {self.clock.step}" + (f": {where}" if where else ""), hint)

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
                name = repr(layer) if self.be.native(layer) else f"{layer!r} *"
                rows.append((layer.path, name, shape, "shared" if layer.tied and count else f"{count:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip()
            for a, b, c, d in rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        total = sum(slot.value.size for slot in self.slots)
        size = "x".join(map(str, self.input_shape))
        where = f"batch {self.batch}, {self.be.dtype}, {mib(self.nbytes)} on {self.be.name}"
        if self.loss:
            where += f", {mib(self.peak_nbytes)} while training"
        if any(row[1].endswith(" *") for row in rows):
            lines += ["", f"* no kernel: computes on the host, its arrays leave {self.be.name} at each call"]
        return "\n".join([*lines, "", f"{total:,} parameters, input {size}, {where}"])

    @property
    def nbytes(self) -> int:
        """Bytes of all the memory that the net owns."""
        owned = [self.flat_params, self.flat_grads, self._flat, self._before, *self._of_batch]
        return sum(array.nbytes for array in owned)

    @property
    def peak_nbytes(self) -> int:
        """Bytes that a training step takes: the net, its input, a solver's velocities, the backend's own."""
        x = math.prod(self.input_shape) * self.batch * self.be.dtype.itemsize
        return self.nbytes + x + self.flat_params.nbytes + int(self.be.own_memory)
