"""Sequential, Concat and Sum: layers made of layers, which nest freely and copy nothing.

A container is a Layer like any other. The activations between its children are its per-sample state; the
deltas between them are scratch, shared by all containers of the same depth. Branches write into slices
of the parent's y and read slices of its dy; where several branches add up, they do so through beta.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minet.core.layer import Array, Layer, Shape, State


class Container(Layer):
    """What the three containers have in common: their children, and how they are copied."""

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer | Iterable[Any]) -> None:
        if not layers:
            raise self.error(
                f"{type(self).__name__} needs at least one layer", "use Identity() to pass x through"
            )
        self.layers = tuple(self._layer(item) for item in layers)

    def _layer(self, item: Any) -> Layer:
        if isinstance(item, Layer):
            return item
        if isinstance(item, (list, tuple)):
            return Sequential(*item)
        made = (
            f"{item.__name__}()"
            if isinstance(item, type) and issubclass(item, Layer)
            else "a layer or a list of layers"
        )
        raise self.error(f"{type(self).__name__} takes layers, got {item!r}", f"use {made}")

    @property
    def children(self) -> tuple[Layer, ...]:
        return self.layers

    def clone(self) -> Layer:
        other = super().clone()
        other._call = ((), {})  # which holds the layers themselves
        return other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


class Sequential(Container):
    """Layers one after another; beta goes to the last one's fprop and to the first one's bprop.

    Parameters
    ----------
    *layers : Layer or list
        A list stands for a nested Sequential.
    """

    def out_shape(self, in_shape: Shape) -> Shape:
        for layer in self.layers:
            in_shape = layer.configure(in_shape)
        return in_shape

    def _between(self, in_shape: Shape) -> list[Shape]:
        """Shapes of the activations between the layers."""
        shapes = []
        for layer in self.layers[:-1]:
            in_shape = layer.configure(in_shape)
            shapes.append(in_shape)
        return shapes

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        shapes, places = self._between(in_shape), self._places()
        state = {f"y{i}": State(shape) for i, shape in enumerate(shapes)}
        for name in sorted(set(places)):
            mine = (shape for shape, place in zip(shapes, places, strict=True) if place == name)
            state[name] = State((max(c * h * w for c, h, w in mine),), scratch=True)
        return state

    def _places(self) -> list[str]:
        """Which buffer holds the delta of each activation between the layers.

        Two deltas are alive at a time, the one that a layer's bprop reads and the one that it writes, so two
        buffers take turns. A delta computed in place stays in the buffer of the one that it replaces.
        """
        places = ["even"] * (len(self.layers) - 1)
        for i in range(len(places) - 2, -1, -1):
            there = places[i + 1]
            places[i] = there if self.layers[i + 1].in_place else "odd" if there == "even" else "even"
        return places

    def on_bind(self) -> None:
        self._ys = [self.s[f"y{i}"] for i in range(len(self.layers) - 1)]
        self._dys = []
        for y, place in zip(self._ys, self._places(), strict=True):
            self._dys.append(self.s[place].reshape(-1)[: y.size].reshape(y.shape))
        for i in range(len(self._dys) - 2, -1, -1):
            if self.layers[i + 1].in_place:
                self._dys[i] = self._dys[i + 1]  # one object, so that the layer sees dx is dy

    def fprop(self, x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
        for layer, out in zip(self.layers, self._ys, strict=False):
            layer.fprop(x, out, 0.0, train)
            x = out
        self.layers[-1].fprop(x, y, beta, train)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float = 0.0) -> None:
        for i in range(len(self.layers) - 1, 0, -1):
            self.layers[i].bprop(self._ys[i - 1], dy, self._dys[i - 1], 0.0)
            dy = self._dys[i - 1]
        self.layers[0].bprop(x, dy, dx, beta)


class Concat(Container):
    """Branches on one input, their outputs stacked along the channels: `y[lo:hi]` is branch i's own y.

    Parameters
    ----------
    *branches : Layer or list
        Their outputs must agree in H and W.
    """

    def out_shape(self, in_shape: Shape) -> Shape:
        shapes = [branch.configure(in_shape) for branch in self.layers]
        if len({shape[1:] for shape in shapes}) > 1:
            raise self.error(
                f"branches disagree in (H, W): {_listed(self.layers, shapes)}",
                "choose strides and pads that give every branch the same height and width",
            )
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def on_bind(self) -> None:
        maps = [branch.bound_shapes[1][0] for branch in self.layers]
        self._slices = [slice(sum(maps[:i]), sum(maps[: i + 1])) for i in range(len(maps))]

    def fprop(self, x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
        for branch, part in zip(self.layers, self._slices, strict=True):
            branch.fprop(x, y[part], beta, train)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float = 0.0) -> None:
        for branch, part in zip(self.layers, self._slices, strict=True):
            branch.bprop(x, dy[part], dx, beta)
            beta = 1.0  # the first branch applies the caller's beta, the others add to dx


class Sum(Container):
    """Branches on one input, their outputs added up: all share one y and one dy.

    Parameters
    ----------
    *branches : Layer or list
        Their outputs must agree in shape.
    """

    def out_shape(self, in_shape: Shape) -> Shape:
        shapes = [branch.configure(in_shape) for branch in self.layers]
        if len(set(shapes)) > 1:
            raise self.error(
                f"branches disagree in (C, H, W): {_listed(self.layers, shapes)}", "a sum needs equal shapes"
            )
        return shapes[0]

    def fprop(self, x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
        for branch in self.layers:
            branch.fprop(x, y, beta, train)
            beta = 1.0

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float = 0.0) -> None:
        for branch in self.layers:
            branch.bprop(x, dy, dx, beta)
            beta = 1.0


def _listed(layers: Iterable[Layer], shapes: Iterable[Shape]) -> str:
    return ", ".join(
        f"{layer.path or type(layer).__name__} {shape}" for layer, shape in zip(layers, shapes, strict=True)
    )
