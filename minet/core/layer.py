"""The layer contract: Layer, and the Param and State that it declares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np

from minet.core.cloning import clone_children
from minet.core.naming import caller
from minet.core.node import LayerError, Node
from minet.core.settings import is_whole, plain

Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = Any  # ndarray on the cpu, the backend's own array elsewhere
SET_BY_NET = ("p", "g", "s", "be", "clock", "bound_shapes", "key", "path", "train", "bound", "placed")
CALLED_BY_NET = (
    "out_shape", "params", "state", "state_gpu", "fprop", "bprop", "on_bind", "stem", "walk", "configure",
    "clone",
)  # fmt: skip
Init: TypeAlias = Callable[[Shape, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Param:
    """A learnable array that a layer declares.

    Parameters
    ----------
    shape : tuple of int
    init : float, array_like or callable
        Initial value: a constant, an array of that shape, or ``init(shape, rng)`` with a NumPy Generator,
        such as ``He()``, ``Glorot()`` and ``Gaussian(std)``.
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

    def __post_init__(self) -> None:
        _make_plain(self)


@dataclass(frozen=True)
class State:
    """An array that a layer declares besides its parameters.

    Parameters
    ----------
    shape : tuple of int
        Without the batch axis.
    dtype : str, optional
        A NumPy dtype name; None is the net's floating type.
    per_sample : bool
        Append the batch axis N. Such state lives from an fprop until its bprop.
    persistent : bool
        Saved in checkpoints and kept when the batch size changes (running statistics).
    scratch : bool
        Contents live within one call only, so layers share the memory. Never zeroed.
    init : float
        Initial value; scratch has none.
    """

    shape: Shape
    dtype: str | None = None
    per_sample: bool = True
    persistent: bool = False
    scratch: bool = False
    init: float = 0.0

    def __post_init__(self) -> None:
        _make_plain(self)


class Layer(Node):
    """One node of a net. Subclass it, declare what it needs, and write its maths.

    **Declare** shapes and memory. Allocate nothing, and leave out the batch size N:

    - ``out_shape(in_shape)``: ``(K, P, Q)`` for an input ``(C, H, W)``. If that does not fit, raise
      ``self.error(message, hint)``.
    - ``params(in_shape)``: ``{name: Param}``, the learnable arrays.
    - ``state(in_shape, out_shape)``: ``{name: State}``, all other memory: what bprop needs besides ``x``,
      running statistics, scratch.
    - ``state_gpu(in_shape, out_shape)``: the same, for what only CUDA kernels need, such as partial sums.
    - ``constants()``: compile-time constants of the CUDA kernels, by macro name.
    - ``examples()``: pairs ``(make, in_shape)`` on which ``minet check`` tests the class.
    - ``to_onnx(graph, x)``, for ``minet export``: adds ONNX's nodes to a graph (docs/onnx.md says how).

    The net allocates the arrays and sets ``self.p`` (parameters), ``self.g`` (their gradients) and ``self.s``
    (state), each by name, as in ``self.p.w``; and ``self.be``, the backend. Then, and after each change of
    batch size, it calls ``on_bind()``: cache views there.

    **Compute** on C-contiguous arrays ``(C, H, W, N)``, the batch innermost:

    - fprop: ``y <- beta*y + f(x)``. bprop: ``dx <- beta*dx + J^T dy``, with J the Jacobian of f. ``beta`` may
      be any float. At ``beta == 0`` never read the destination: it may hold NaN.
    - Parameter gradients are always added, ``self.g.w += ...``, whatever beta is; the net clears them.
    - Never modify ``x`` or ``dy``: Sum passes one ``dy`` to every branch.
    - bprop never reads ``y``: under Sum it also holds the sibling branches' share. Declare what bprop needs
      besides ``x`` as state.
    - bprop follows an fprop of the same ``x``, and may run more than once for it. ``self.train`` is the mode
      of that fprop.
    - ``dx is None`` for a net's first layer: skip dx, but add the parameter gradients.
    - ``in_place = True`` promises that bprop also works if ``dx is dy``, at beta 0: elementwise layers can.
    - An object binds once. To use its weights in a second place, put ``layer.twin()`` there.
    - Be deterministic, bit for bit on one backend: one owner for each element of dx, sums in a fixed order,
      random draws from ``minet.rng.uniform(self.key, self.clock.step, x.shape)`` or its Numba twin,
      ``minet.loops.philox``. The samples may be a part of a batch, which must draw what the whole would.
      `uniform` sees to that. A Numba kernel gets ``int(self.clock.step)`` and ``first, whole =
      self.clock.samples(N)``: element i of (..., N) draws as number ``i // N * whole + first + i % N``.
      The step itself is refused there, and by NumPy's generators, if it is that of a part.

    **Three ways to write the maths**, in the order you meet them. ``<stem>`` is the class name in snake case,
    ``gaussian_pool`` for GaussianPool; of LSEPool, both ``lsepool`` and ``lse_pool``:

    1. *NumPy*: write ``fprop_cpu(x, y, beta, train)`` and ``bprop_cpu(x, dy, dx, beta)``. Most end in
       ``update(y, value, beta)`` from minet. Test them with ``minet check FILE``.
    2. *Numba*, once that is right but too slow: move the hot loops to a file of their own, and call them from
       the same two methods. The file may lie beside your layer file, say ``swish_loops.py``, and imports its
       decorators with ``from minet.loops import kernel, parallel_kernel``. Keep the NumPy version, as
       ``fprop_numpy`` and ``bprop_numpy``: the kit then compares the two. ``minet check FILE --bounds``
       names an index out of bounds, which otherwise may end the process. The loops of minet's own layers
       are in ``minet/loops/<stem>.py``; the README there has the rules.
    3. *CUDA*: kernels ``<stem>_fprop`` and ``<stem>_bprop`` in ``<stem>.cu`` beside the layer's file (for
       minet's own: in ``kernels/``) make it native on a GPU. A kernel gets its arguments by name, in any
       order: ``x y dy dx``, parameters (``a``) and their gradients (``da``), state, the sizes
       ``C H W K P Q N``, ``beta``, ``train``, and ``key0 key1 step first whole`` for random draws. For more
       than one launch, or a grid of your own, override ``fprop_gpu`` or ``bprop_gpu``, which take the
       arguments of their ``_cpu`` twins, and call ``self.be.launch``. Without a kernel the layer runs on the
       host, and its arrays travel there and back.

    A layer made of backend calls alone overrides ``fprop`` and ``bprop`` instead, and runs on every backend.
    """

    clock: Any
    bound_shapes: tuple[Shape, Shape]  # of one sample: input and output
    key: tuple[int, int] = (0, 0)
    in_place: bool = False
    renamed: dict[str, str] = {}  # names of parameters and state in older checkpoints, old to new
    bound: bool = False
    placed: bool = False
    tied: Layer | None = None
    frozen: bool = False

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
        """Memory that only CUDA kernels need, such as partial sums; on a GPU it comes on top of `state`."""
        return {}

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        """Pairs ``(make, in_shape)`` on which the conformance kit tests the class."""
        raise NotImplementedError(f"{cls.__name__} has no examples() for the conformance kit")

    # -- computed -------------------------------------------------------------------------------

    def fprop(self, x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
        """``y <- beta*y + f(x)``; by default the backend runs ``fprop_cpu`` or the kernel."""
        self.train = train
        self.be.run(self, "fprop", x, y, beta, train)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float = 0.0) -> None:
        """``dx <- beta*dx + J^T dy`` and ``self.g[...] += ...``, for the x of the last fprop."""
        self.be.run(self, "bprop", x, dy, dx, beta)

    # -- provided -------------------------------------------------------------------------------

    @property
    def children(self) -> tuple[Layer, ...]:
        """The layers inside; empty except in containers."""
        return ()

    @property
    def full_path(self) -> str:
        """The layer's position in its net, with its stem: ``2/1/gaussian_pool``."""
        return "/".join(filter(None, (self.path, self.stem())))

    def walk(self) -> Iterator[Layer]:
        """Yield this layer and all layers inside it, parents first, in forward order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def configure(self, in_shape: Shape) -> Shape:
        """Call ``out_shape`` and check both shapes; errors name the layer and its input."""
        try:
            if not is_shape(in_shape):
                found = "input shape must be three positive whole numbers (C, H, W)"
                raise self.error(found, "leave out the batch size")
            in_shape = tuple(map(plain, in_shape))
            out = self.out_shape(in_shape)
            if not isinstance(out, tuple) or not is_shape(out):
                raise self.error(
                    f"out_shape returned {out!r}, which is not (K, P, Q) in positive whole numbers",
                    "leave out the batch size; if the input does not fit, raise self.error(...) in out_shape",
                )
        except LayerError as error:
            if error.layer is None:
                error.layer = self
            if error.layer is self and error.in_shape is None:
                error.in_shape = tuple(in_shape)
            raise
        return tuple(map(plain, out))

    def freeze(self) -> Self:
        """Let solvers change no parameter of this layer nor of the layers inside it; return the layer.

        It comes before the net is made: ``Net([Conv(64, 3).freeze(), ...])``. The parameters' gradients are
        still computed, and running statistics still follow the batches of training.
        """
        layers = list(self.walk())
        for layer in layers:
            if layer.bound:
                raise layer.error("is bound already: freeze() comes too late", "call it before Net(...)")
            if layer.tied and layer.tied not in layers:
                raise layer.error(f"has the parameters of {layer.tied.where}", "freeze that layer")
        for layer in layers:
            layer.frozen = True
        return self

    def clone(self) -> Layer:
        """An unbound layer with the same settings."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        for name in (*SET_BY_NET, "tied"):
            other.__dict__.pop(name, None)
        if self.children:
            clone_children(self, other)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Layer:
        other = memo[id(self)] = self.clone()
        return other

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.bound:
            raise self.error("a bound layer cannot be pickled: its arrays belong to a net", "use clone()")
        return super().__reduce_ex__(protocol)

    def twin(self) -> Layer:
        """An unbound layer with the same settings that shares this one's parameters and gradients."""
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
    """Whether `shape` is (C, H, W) in positive whole numbers."""
    long_enough = isinstance(shape, (tuple, list)) and len(shape) == 3
    return long_enough and all(is_whole(size) and size >= 1 for size in shape)


def _make_plain(declared: Param | State) -> None:
    """Turn NumPy's numbers in a declaration into Python's: a shape of small ones would wrap around."""
    for name, value in vars(declared).items():
        whole = isinstance(value, tuple)
        object.__setattr__(declared, name, tuple(map(plain, value)) if whole else plain(value))
