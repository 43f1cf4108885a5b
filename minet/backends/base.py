"""The interface of a backend: what it does for layers and nets, on its own native arrays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minet.core.layer import Array, Layer, Shape
from minet.core.memory import Slot
from minet.core.node import Node


class Backend(ABC):
    """Memory, matrix products and running layers' code on one device.

    Arrays are C-contiguous. Where a method takes a matrix, its rows may be a stride apart, so a slice of
    columns works as well as a whole matrix. Wherever there is a beta, ``beta == 0`` does not read `out`.

    Parameters
    ----------
    dtype : str
        "float32" or "float64": the type of activations and parameters.
    """

    name: str
    declarations: tuple[str, ...] = ("state",)  # methods in which a layer declares the memory it needs here
    judges = False  # whether it finds out by itself, in `judge`, that a step's loss is not finite

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = np.dtype(dtype)
        # Phases of classes, in training or not, whose first call on the host was seen to write its result.
        self.tried: set[tuple[type, str, bool]] | None = set()  # None: trust them all

    @abstractmethod
    def empty(self, shape: Shape, dtype: Any = None) -> Array:
        """An uninitialised array."""

    @abstractmethod
    def zeros(self, shape: Shape, dtype: Any = None) -> Array:
        """An array of zeros."""

    @abstractmethod
    def array(self, values: Any, dtype: Any = None) -> Array:
        """A native C-contiguous array of the values; the argument itself if it already is one."""

    @abstractmethod
    def get(self, array: Array) -> np.ndarray:
        """The values as a NumPy array; no copy if they are in host memory."""

    @abstractmethod
    def copy(self, src: Array, dst: Array) -> None:
        """``dst <- src``, from a native or a NumPy array."""

    def taken(self, values: Any, into: Array) -> Array:
        """The values themselves if they are a native array as `array` makes, else `into`, set to them."""
        if self.is_native(values):
            return self.array(values)
        self.copy(values, into)
        return into

    @abstractmethod
    def is_native(self, values: Any) -> bool:
        """Whether `array` makes no copy of the values."""

    def duplicate(self, array: Array) -> Array:
        """A native array of its own with the same values."""
        out = self.empty(array.shape, array.dtype)
        self.copy(array, out)
        return out

    @abstractmethod
    def overlap(self, a: Array, b: Array) -> bool:
        """Whether two native arrays may have memory in common."""

    @property
    def own_memory(self) -> int:
        """Bytes that computing takes on top of the net's memory; 0 if not measured."""
        return 0

    def free_memory(self) -> int | None:
        """Bytes that can still be allocated; None if that is not known in advance."""
        return None

    @abstractmethod
    def fill(self, array: Array, value: float) -> None:
        """Set every element."""

    @abstractmethod
    def sum_is_finite(self, array: Array) -> bool:
        """Whether the sum of all elements is a finite number."""

    @abstractmethod
    def gemm(
        self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0, trans: str = "nn"
    ) -> None:
        """``out <- beta*out + alpha * op(a) @ op(b)`` on matrices; `trans`: "n" or "t" for a, then for b."""

    @abstractmethod
    def axpby(self, alpha: float, x: Array, beta: float, y: Array) -> None:
        """``y <- alpha*x + beta*y``."""

    @abstractmethod
    def sum_rows(self, a: Array, out: Array, beta: float = 0.0) -> None:
        """``out[i] <- beta*out[i] + sum of row i`` of a matrix, summed in a fixed order."""

    @abstractmethod
    def add_bias(self, y: Array, b: Array) -> None:
        """``y[i] += b[i]`` for every row of a matrix."""

    @abstractmethod
    def solver_step(
        self, stem: str, slots: Iterable[Slot], flat: Mapping[str, Array], verdict: Array | None, **fixed: Any
    ) -> Callable[..., None]:
        """A function of a solver's settings, by name, that takes one step on all parameters.

        It calls ``<stem>_steps``, which lies in ``minet/loops/<stem>.py`` and, for a GPU, in
        ``kernels/<stem>.cu``: `minet.train.optim.sgd` and `minet.train.optim.adam` say what these compute.
        Settings that all of them have are ``scale``, a factor of the gradients from `clip_scale` or None, and
        ``clip``, the size at which elements of them are cut off.

        Parameters
        ----------
        slots : iterable of Slot
            The parameters; those with ``lr=0`` are frozen. After a step each is within its bounds.
        flat : dict of str to array
            By the kernel's names for them, buffers of all parameters, of all gradients, and of what the
            solver keeps for each, such as velocities: a slot's at the same place in each. Gradients are not
            changed.
        verdict : array, optional
            What `judge` writes: nothing changes while that says "refused".
        **fixed
            More arguments of ``<stem>_steps`` that are the same at each step.
        """

    @abstractmethod
    def clip_scale(self, slots: Iterable[Slot], grads: Array) -> Callable[[float], Any]:
        """A function of c that returns ``min(1, c / (norm + 1e-6))``, for `solver_step`.

        The norm is that of all gradients together, but those of frozen parameters, summed in float64 in an
        order that their sizes fix. On a card the factor stays there, as an array of one number.
        """

    def repeated(self, work: Callable[..., Any], nodes: Iterable[Node], clock: Any) -> Callable[..., Any]:
        """`work(labels)`, to be called again and again: where launches cost time, they are replayed.

        Parameters
        ----------
        work : callable
            Launches the same each time, except for the labels' values and the step that kernels are given.
        nodes : iterable of Node
            What computes in it: if one of their settings changes, nothing is replayed.
        clock : Clock
        """
        return work

    def later(self, array: Array) -> Callable[[], np.ndarray]:
        """The values that a small array has once all that was started before has run.

        Starts a copy, without waiting; calling the result waits for it.
        """
        values = np.array(self.get(array))
        return lambda: values

    def native(self, layer: Layer) -> bool:
        """Whether a layer computes on this device in both directions, rather than on the host."""
        return True

    @abstractmethod
    def run(self, node: Node, phase: str, *args: Any) -> Any:
        """Run a layer's "fprop" or "bprop", or a loss's "loss", as written for this device."""

    def started(self, node: Node, phase: str, *args: Any) -> Any:
        """As `run`, but a loss may be left in an array of terms on the device, for `judge` to add up."""
        return self.run(node, phase, *args)


def limits(bounds: tuple[float | None, float | None] | None) -> tuple[float, float]:
    """A parameter's bounds as numbers, infinite where there is none."""
    low, high = bounds or (None, None)
    return -math.inf if low is None else low, math.inf if high is None else high
