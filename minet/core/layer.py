"""The layer contract: Layer, and what a layer declares, Param and State."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minet.core.naming import caller
from minet.core.node import LayerError, Node
from minet.core.settings import is_whole

Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = Any  # ndarray on the cpu, the backend's own array elsewhere
SET_BY_NET = ("p", "g", "s", "be", "clock", "bound_shapes", "key", "path", "train", "bound", "placed")
Init: TypeAlias = Callable[[Shape, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Param:
    """A learnable array that a layer asks for.

    Parameters
    ----------
    shape : tuple of int
    init : float, array_like or callable
        The first value: a constant, an array of that shape, or ``init(shape, rng)`` with a NumPy Generator.
    decay : bool
        Whether weight decay applies.
    lr : float
        Multiplies the solver's learning rate; 0 freezes the parameter.
    bounds : (float or None, float or None), optional
        The solver clips the parameter to [low, high] after each step.
    """

    shape: Shape
    init: float | np.ndarray | Init = 0.0
    decay: bool = True
    lr: float = 1.0
    bounds: tuple[float | None, float | None] | None = None


@dataclass(frozen=True)
class State:
    """Memory that a layer asks for beside its parameters.

    Parameters
    ----------
    shape : tuple of int
        Without the batch axis.
    dtype : str, optional
        NumPy's name of it; None is the net's floating type.
    per_sample : bool
        Append the batch axis N. Such state lives from an fprop to the bprop that follows it.
    persistent : bool
        Saved in checkpoints and kept when the batch size changes (running statistics).
    scratch : bool
        Contents live within one call only, so that layers share the memory. Never zeroed.
    init : float
        The first value; scratch has none.
    """

    shape: Shape
    dtype: str | None = None
    per_sample: bool = True
    persistent: bool = False
    scratch: bool = False
    init: float = 0.0


class Layer(Node):
    """One node of a net. Subclass it, declare what it needs, and write its maths.

    Declare, without allocating and without the batch size N:

    - ``out_shape(in_shape)``: ``(C, H, W)`` to ``(K, P, Q)``; raise ``self.error(...)`` if it does not fit.
    - ``params(in_shape) -> {name: Param}`` and ``state(in_shape, out_shape) -> {name: State}``.
    - The net allocates. The layer sees ``self.p`` (parameters), ``self.g`` (their gradients) and
      ``self.s`` (state), by name, and ``self.be``, its backend.

    Compute, on C-contiguous ``(C, H, W, N)`` arrays, the batch innermost:

    - fprop: ``y <- beta*y + f(x)``. bprop: ``dx <- beta*dx + J^T dy``. Parameter gradients always
      ``+=``; the net clears them.
    - ``beta == 0`` never reads the destination: it may hold NaN. beta is any float, both ways.
    - Never modify ``x`` or ``dy``: Sum hands one ``dy`` to every branch.
    - bprop never reads ``y``: under Sum it holds the siblings' share too. What bprop needs beyond ``x``
      is declared as state. bprop follows the fprop of the same ``x``; ``self.train`` tells its mode.
    - ``in_place = True`` says that bprop works with dy itself for dx, at beta 0, as elementwise layers can.
    - ``dx is None`` for a net's first layer: skip that work.
    - An object binds once. To use its weights in a second place, use ``layer.twin()`` there.
    - Deterministic, bit for bit on one backend: one owner for each element of dx, reductions in a fixed
      order, random draws by ``minet.rng.uniform(self.key, self.clock.step, shape)`` or its Numba twin.

    Three ways to write the maths, in the order in which one meets them:

    1. ``fprop_cpu(x, y, beta, train)`` and ``bprop_cpu(x, dy, dx, beta)`` in NumPy.
    2. The hot loops move to a Numba function in ``kernels/<stem>.py``, or beside your own file.
    3. ``<stem>.cu`` beside the class's file (for minet's own: in ``kernels/``), with kernels ``<stem>_fprop``
       and ``<stem>_bprop``, makes it native on a GPU. A kernel's parameters are given what their names say:
       ``x y dy dx``, parameters (``a``) and their gradients (``da``), state, the sizes ``C H W K P Q N``,
       ``beta``, ``train``, the draw's ``key0 key1 step``. What needs more than one launch, or a grid of its
       own, overrides ``fprop_gpu`` / ``bprop_gpu``, with the same arguments, and calls ``self.be.launch``.
       Without a kernel the layer computes on the host, and its arrays travel there and back.

    Layers made of backend calls only override ``fprop`` and ``bprop`` and run on every backend.
    """

    clock: Any
    bound_shapes: tuple[Shape, Shape]  # of one sample: input and output
    key: tuple[int, int] = (0, 0)
    train: bool = False
    in_place: bool = False
    renamed: dict[str, str] = {}  # parameters' and state's names in older checkpoints, old to new
    bound: bool = False
    placed: bool = False
    tied: Layer | None = None

    # -- declared by the subclass ---------------------------------------------------------------

    def out_shape(self, in_shape: Shape) -> Shape:
        """Shape of one sample's output, ``(K, P, Q)``, from the input's ``(C, H, W)``."""
        raise NotImplementedError(f"{type(self).__name__} does not declare out_shape(in_shape)")

    def params(self, in_shape: Shape) -> dict[str, Param]:
        """The learnable arrays, by name."""
        return {}

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        """Other memory, by name."""
        return {}

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        """Memory that only CUDA kernels need, such as partial sums: declared beside `state` on a GPU."""
        return {}

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        """Pairs ``(make, in_shape)`` on which the conformance kit proves the class."""
        raise NotImplementedError(f"{cls.__name__} has no examples() for the conformance kit")

    # -- computed -------------------------------------------------------------------------------

    def fprop(self, x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
        """``y <- beta*y + f(x)``; by default the backend finds ``fprop_cpu`` or the kernel."""
        self.train = train
        self.be.run(self, "fprop", x, y, beta, train)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float = 0.0) -> None:
        """``dx <- beta*dx + J^T dy`` and ``self.g[...] += ...``, for the x of the last fprop."""
        self.be.run(self, "bprop", x, dy, dx, beta)

    # -- provided -------------------------------------------------------------------------------

    @property
    def children(self) -> tuple[Layer, ...]:
        """The layers inside; empty but for containers."""
        return ()

    @property
    def full_path(self) -> str:
        """Where the layer stands in its net, with its stem: ``2/1/gaussian_pool``."""
        return "/".join(filter(None, (self.path, self.stem())))

    def walk(self) -> Iterator[Layer]:
        """This layer and all inside it, parents first, in forward order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def configure(self, in_shape: Shape) -> Shape:
        """``out_shape`` with the shapes checked and an error that says where it happened."""
        try:
            if not is_shape(in_shape):
                found = "input shape must be three whole positive sizes (C, H, W)"
                raise self.error(found, "leave out the batch size")
            out = self.out_shape(in_shape)
            if not isinstance(out, tuple) or not is_shape(out):
                raise self.error(
                    f"out_shape gave {out!r}, which is not (K, P, Q) with whole positive sizes",
                    "raise self.error(...) in out_shape if the input does not fit",
                )
        except LayerError as error:
            if error.layer is None:
                error.layer = self
            if error.layer is self and error.in_shape is None:
                error.in_shape = tuple(in_shape)
            raise
        return out

    def clone(self) -> Layer:
        """An unbound layer of the same settings."""
        other = copy.copy(self)
        for name in (*SET_BY_NET, "tied"):
            other.__dict__.pop(name, None)
        return other

    def twin(self) -> Layer:
        """An unbound layer of the same settings that shares this one's parameters and gradients."""
        other = self.clone()
        other.made_at = caller(sys._getframe(1), type(self))
        for ours, theirs in zip(other.walk(), self.walk(), strict=True):
            ours.tied = theirs.tied or theirs
        return other


def update(out: np.ndarray, value: np.ndarray, beta: float) -> None:
    """``out <- beta*out + value`` on NumPy arrays; at ``beta == 0`` out is not read.

    The last line of most layers written in NumPy.
    """
    if beta == 0:
        out[...] = value
    else:
        if beta != 1:
            out *= beta
        out += value


def is_shape(shape: Any) -> bool:
    """Whether it is (C, H, W) in whole positive sizes."""
    long_enough = isinstance(shape, (tuple, list)) and len(shape) == 3
    return long_enough and all(is_whole(size) and size >= 1 for size in shape)
