"""A walk over a graph of layers before anything is allocated: paths, shapes, depths."""

from __future__ import annotations

from collections.abc import Iterator

from minet.containers import Sequential
from minet.layer import Layer, Shape


def place_all(graph: Layer) -> None:
    """Give every layer its path; refuse a layer that is used twice or bound already."""
    seen: dict[Layer, str] = {}

    def place(layer: Layer, path: str) -> None:
        if layer in seen or layer.bound:
            before = f"at {seen[layer] or 'the root'}" if layer in seen else "in another net"
            raise layer.error(
                f"this object stands {before} already: a layer binds once",
                "make a second layer; to share its weights, put layer.twin() in the second place",
            )
        seen[layer] = path
        for i, child in enumerate(layer.children):
            place(child, f"{path}/{i}" if path else str(i))

    place(graph, "")
    for layer, path in seen.items():
        layer.path = path


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
    """Every layer, parents first, with the number of containers around it."""
    yield depth, layer
    for child in layer.children:
        yield from with_depth(child, depth + 1)
