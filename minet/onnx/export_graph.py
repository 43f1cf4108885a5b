"""Graph, an ONNX graph under construction: what a layer's translation adds its nodes to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from minet.core.layer import Layer

OPSET = 17
Value = str  # the name of one
Given = Value | int | float | list[int] | np.ndarray


class Graph:
    """Nodes and constants, to which each layer adds its own.

    Values are ``(N, C, H, W)``, or ``(N, C)`` where maps are single numbers behind a Linear; N is free.

    Parameters
    ----------
    get : callable
        Turns an array of the net's backend into NumPy's.

    Attributes
    ----------
    nodes, constants : list
        ONNX's own objects, in order.
    made : dict of Layer to (str, str)
        The input and the output of each layer inside which there are no others.
    """

    def __init__(self, get: Callable[[Any], Any] = np.asarray) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.made: dict[Layer, tuple[Value, Value]] = {}
        self._get = get
        self._layer: Layer | None = None
        self._names: dict[str, int] = {}
        self._kept: dict[tuple[Any, ...], Value] = {}  # the names of constants, by their content
        self._flat: set[Value] = set()  # those that are (N, C)
        self._same: dict[Value, Value] = {}  # of flat values, the same numbers as maps, and of maps, as flat

    @contextmanager
    def of(self, layer: Layer) -> Iterator[None]:
        """Within this context, nodes are named after that layer."""
        before, self._layer = self._layer, layer
        try:
            yield
        finally:
            self._layer = before

    def add(self, op: str, *inputs: Given, **attributes: Any) -> Value:
        """Add a node of ONNX's operator `op`, and return the name of its output.

        Parameters
        ----------
        op : str
            Of opset 17, such as "Mul".
        *inputs : str, float, list of int or array
            Names of values, or constants, as for `constant`.
        **attributes
            The operator's, such as ``axis=1``.
        """
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        out = self._unused(op)
        self.nodes.append(helper.make_node(op, names, [out], name=out, **attributes))
        return out

    def constant(self, value: Any, name: str = "") -> Value:
        """The name of a constant; equal ones are kept once.

        Parameters
        ----------
        value : float, list of int or array
            Numbers become float32; whole numbers in a list or an array int64, as Slice and Reshape take them.
        name : str
            What to call it, behind the layer's path: a parameter by its own name.
        """
        here = isinstance(value, (np.ndarray, list)) or np.isscalar(value)
        array = np.asarray(value if here else self._get(value))
        whole = array.dtype.kind in "iu" and not np.isscalar(value)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which the check finds
            array = np.array(array, np.int64 if whole else np.float32, order="C")
        key = array.dtype, array.shape, hashlib.sha256(array.tobytes()).digest()
        if key not in self._kept:
            self._kept[key] = called = self._unused(name or "constant", "." if name else "/")
            self.constants.append(numpy_helper.from_array(array, called))
        return self._kept[key]

    def param(self, name: str, *shape: int) -> Value:
        """The constant of the present layer's parameter or state of that name, in another shape if given."""
        assert self._layer is not None
        array = np.asarray(self._get({**self._layer.p, **self._layer.s}[name]))
        return self.constant(array.reshape(shape) if shape else array, name)

    # -- maps of single numbers -------------------------------------------------------------------------

    def flat(self, x: Value) -> Value:
        """A value as ``(N, C*H*W)``, in the order (C, H, W)."""
        if x in self._flat:
            return x
        if x not in self._same:
            self._same[x] = self.now_flat(self.add("Flatten", x, axis=1))
        return self._same[x]

    def maps(self, x: Value) -> Value:
        """A value as ``(N, C, H, W)``."""
        if x not in self._flat:
            return x
        if x not in self._same:
            self._same[x] = made = self.add("Unsqueeze", x, [2, 3])
            self._same[made] = x
        return self._same[x]

    def is_flat(self, x: Value) -> bool:
        return x in self._flat

    def now_flat(self, x: Value) -> Value:
        """A value that is ``(N, C)`` from now on."""
        self._flat.add(x)
        return x

    def by_channel(self, name: str, x: Value) -> Value:
        """`param` with a value for each channel of x, or one for all, so that it broadcasts against x."""
        return self.param(name, -1, *(() if self.is_flat(x) else (1, 1)))

    def finish(self, y: Value) -> None:
        """Call the value y "y"; to be called last."""
        if y == "x":
            y = self.add("Identity", y)

        def renamed(name: Value) -> Value:
            return "y" if name == y else name

        for node in self.nodes:
            node.input[:] = map(renamed, node.input)
            node.output[:] = map(renamed, node.output)
        self.made = {layer: (renamed(a), renamed(b)) for layer, (a, b) in self.made.items()}

    def _unused(self, name: str, between: str = "/") -> str:
        """A name that begins with the present layer's path."""
        name = f"{self._layer.full_path}{between}{name}" if self._layer else name
        self._names[name] = count = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"
