"""A node of an ONNX graph, as the translation of each operator sees it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Layer, Shape
from minet.onnx.graph import Leaf
from minet.onnx.source import Source

NO_PADS = (0, 0, 0, 0)
ABSENT: Any = object()


class Unmet(MinetError):
    """A node that minet has no layer for."""


class Signal(NamedTuple):
    """An activation: its shape for one sample, how ONNX sees it, and what a Pad put around it.

    A flat one is a matrix ``(N, C*H*W)`` to ONNX; minet keeps it as ``(C, H, W)``, in the same order.
    """

    shape: Shape
    flat: bool = False
    pads: tuple[int, int, int, int] = NO_PADS  # top, left, bottom, right
    lowest: bool = False  # whether these are of -inf, or nearly, rather than of zeros
    rectified: bool = False  # whether it is a Relu's output, so that nothing in it is below 0

    @property
    def size(self) -> int:
        C, H, W = self.shape
        return C * H * W

    @property
    def dims(self) -> Shape:
        """The shape in ONNX, without the batch."""
        return (self.size,) if self.flat else self.shape


class Node:
    """A node: its attributes and constants, each asked for by name or number.

    Attributes
    ----------
    op : str
    name : str
        As errors name it: ``n8 (Conv)``.
    batch : int
        The N that the file is for; 1 if it is open.
    signals : list of Signal
        The activations among its inputs.
    operands : list of int
        Which of its inputs these are.
    made : Signal
        Its output, which the translation sets if it has another shape than its first input.
    """

    def __init__(self, proto: Any, source: Source, signals: dict[str, Signal], batch: int) -> None:
        self.op, self.opset, self.batch = proto.op_type, source.opset, batch
        self._source, self._inputs = source, list(proto.input)
        self.name = f"{proto.name or proto.output[0]} ({proto.op_type})"
        self.operands = [i for i, name in enumerate(self._inputs) if name in signals]
        self.signals = [signals[self._inputs[i]] for i in self.operands]
        self.made = self.signals[0] if self.signals else Signal(())
        self._attributes = {attribute.name: attribute for attribute in proto.attribute}
        self._asked: set[str] = set()

    @property
    def x(self) -> Signal:
        """The first activation."""
        return self.signals[0]

    def unmet(self, message: str) -> Unmet:
        """An error about this node, to be raised."""
        return Unmet(f"{self.name}: {message}")

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value, of its default's type; tensors as arrays, float32 by `short`."""
        from onnx import AttributeProto, helper

        self._asked.add(name)
        if name not in self._attributes:
            return default
        given = self._attributes[name]
        if given.type == AttributeProto.TENSOR:
            return self._source.array(given.t)
        try:
            value = helper.get_attribute_value(given)
        except ValueError as error:
            raise self.unmet(f"attribute {name}: {error}") from error
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace")
        if value is None or (isinstance(default, int | float | str) and type(value) is not type(default)):
            raise self.unmet(f"attribute {name} is {value!r:.40}")
        return short(value) if isinstance(value, float) else value

    def whole(self, name: str, default: Any = ABSENT) -> list[int]:
        """An attribute that is a list of whole numbers."""
        value = self.attribute(name, default)
        if value is default and default is not ABSENT:
            return list(default)
        if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
            raise self.unmet(f"needs whole numbers as its {name}")
        return value

    def has(self, i: int) -> bool:
        """Whether there is an input i."""
        return i < len(self._inputs) and bool(self._inputs[i])

    def constant(self, i: int) -> np.ndarray:
        """Input i, which must be a constant."""
        if not self.has(i):
            raise self.unmet(f"lacks its input {i}")
        if (name := self._inputs[i]) not in self._source:
            raise self.unmet(f"{name} must be a constant")
        return self._source[name]

    def weights(self, i: int) -> np.ndarray:
        """Input i, a constant of real numbers, as float32."""
        found = self.constant(i)
        if found.dtype.kind != "f":
            raise self.unmet(f"{self._inputs[i]} has the type {found.dtype}, not a float")
        return found if found.dtype == np.float32 else found.astype(np.float32)

    def number(self, i: int, default: float) -> float:
        """Input i, a constant of one number, or the default if there is none."""
        if not self.has(i):
            return default
        value = self.constant(i)
        if value.size != 1:
            raise self.unmet(f"{self._inputs[i]} must be one number, is {value.shape}")
        return short(value.item())

    def listed(self, name: str, i: int, default: list[int] | None = None) -> list[int] | None:
        """Whole numbers that older opsets have as an attribute and newer ones as input i."""
        if not self.has(i):
            value = self.attribute(name, default)
            return value if value is default else self.whole(name)
        array = self.constant(i)
        if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > 64:
            raise self.unmet(f"{self._inputs[i]} must be a few whole numbers, is {array.dtype} {array.shape}")
        return [int(value) for value in array.reshape(-1)]

    def image(self) -> Shape:
        """The first activation's ``(C, H, W)``, if it is one of maps to ONNX too."""
        if self.x.flat:
            raise self.unmet(f"needs maps (N, C, H, W), its input is (N, {self.x.size})")
        return self.x.shape

    def channels(self) -> int:
        """How many channels the first activation has to ONNX, which must be those that it has to minet."""
        if self.x.flat and self.x.shape[1:] != (1, 1):
            raise self.unmet(f"its channels are the {self.x.size} numbers of {self.x.shape}")
        return self.x.shape[0]

    def per_channel(self, values: np.ndarray) -> np.ndarray:
        """A constant as it spreads over the first activation: one number, or one for each channel."""
        if values.size == 1:
            return values.reshape(-1)
        rank = 1 + len(self.x.dims)
        sizes = (1,) * (rank - values.ndim) + values.shape
        if len(sizes) != rank or sizes != (1, self.channels(), *(1,) * (rank - 2)):
            raise self.unmet(
                f"a constant of {values.shape} is not one number for each channel of {self.x.dims}"
            )
        return values.reshape(-1)

    def leaf(self, layer: Layer, **arrays: np.ndarray) -> list[Leaf]:
        """A layer in this node's place; its output becomes the node's.

        Raises
        ------
        LayerError
            If its arrays or its input do not fit it.
        """
        x = self.x.shape
        needed = {name: param.shape for name, param in layer.params(x).items()}
        needed |= {n: s.shape for n, s in layer.state(x, layer.configure(x)).items() if s.persistent}
        for name, array in arrays.items():
            if array.shape != needed[name]:
                raise self.unmet(
                    f"its {name} has the shape {array.shape}, for this input it is {needed[name]}"
                )
        self.made = Signal(layer.configure(x), self.made.flat)
        return [Leaf(layer, arrays, self.name)]

    def finish(self) -> None:
        """Refuse attributes that nobody has asked for: they might change what the node computes."""
        if others := sorted(self._attributes.keys() - self._asked):
            raise self.unmet(f"attribute {', '.join(others)} is not known")


def short(value: float) -> float:
    """A float32 as the shortest number that becomes the same: 0.4, not 0.4000000059604645."""
    return float(str(np.float32(value)))
