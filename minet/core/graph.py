"""Paths, shapes and depths in a graph of layers, found before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterator

from minet.core.containers import Sequential
from minet.core.layer import CALLED_BY_NET, SET_BY_NET, Layer, Shape


def assign_paths(graph: Layer) -> None:
    """Give every layer its path; refuse one that is used twice, is bound, or overwrites what the net sets."""
    seen: dict[Layer, str] = {}
    share = "make a second layer; to share the weights, make it with layer.twin()"

    def visit(layer: Layer, path: str) -> None:
        if layer in seen:
            first = seen[layer] or "the root"
            raise layer.error(f"this object is used at {first} and at {path}: a layer binds once", share)
        if layer.bound:
            raise layer.error("this object is bound in another net: a layer binds once", share)
        if not layer.placed and (own := set(SET_BY_NET) & layer.__dict__.keys()):
            raise layer.error(f"self.{min(own)} is reserved for the net", "rename the attribute")
        if hidden := [name for name in CALLED_BY_NET if not callable(getattr(layer, name))]:
            raise layer.error(f"self.{hidden[0]} hides a method that the net calls", "rename the attribute")
        seen[layer] = path
        for i, child in enumerate(layer.children):
            visit(child, f"{path}/{i}" if path else str(i))

    visit(graph, "")
    for layer, path in seen.items():
        layer.path, layer.placed = path, True


def shapes_of(graph: Layer, in_shape: Shape) -> dict[Layer, tuple[Shape, Shape]]:
    """Input and output shape of every layer, parents first."""
    shapes: dict[Layer, tuple[Shape, Shape]] = {}

    def visit(layer: Layer, in_shape: Shape) -> Shape:
        shapes[layer] = (in_shape, layer.configure(in_shape))
        x_shape = in_shape
        for child in layer.children:
            y_shape = visit(child, x_shape)
            x_shape = y_shape if isinstance(layer, Sequential) else in_shape
        return shapes[layer][1]

    visit(graph, in_shape)
    return shapes


def with_depth(layer: Layer, depth: int = 0) -> Iterator[tuple[int, Layer]]:
    """Yield every layer, parents first, with the number of containers around it."""
    yield depth, layer
    for child in layer.children:
        yield from with_depth(child, depth + 1)
