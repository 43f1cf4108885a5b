"""A net as a table: path, layer, output and parameters of each layer, then the totals."""

from __future__ import annotations

from typing import Any

from minet.core.containers import Concat, Sequential, Sum
from minet.core.layer import Layer
from minet.core.memory import Shapes


def table(be: Any, graph: Layer, shapes: Shapes, where: str) -> str:
    """The text of `Net.summary`; `where` ends it, with batch, type, memory and backend.

    If there is a Concat, a column says which channels of the shared output each branch writes.
    """
    rows: list[tuple[str, ...]] = [("path", "layer", "output (C, H, W)", "writes", "parameters")]
    total = frozen = 0
    parts = slices(graph, shapes)
    for layer in graph.walk():
        if not layer.children:
            count = sum(value.size for value in layer.p.values())
            total += 0 if layer.tied else count
            shape = "x".join(map(str, shapes[layer][1]))
            name = f"{layer!r}.freeze()" if layer.frozen and count else repr(layer)
            name += "" if be.native(layer) else " *"
            if layer.frozen and not layer.tied:
                frozen += count
            learned = "shared" if layer.tied and count else f"{count:,}"
            rows.append((layer.path, name, shape, parts.get(layer, ""), learned))
    host = any(row[1].endswith(" *") for row in rows)
    if not parts:
        rows = [(*row[:3], row[4]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    if host:
        lines += ["", f"* no kernel: runs on the host; its arrays leave {be.name} and come back at each call"]
    size = "x".join(map(str, shapes[graph][0]))
    still = f" ({frozen:,} frozen)" if frozen else ""
    return "\n".join([*lines, "", f"{total:,} parameters{still}, input {size}, {where}"])


def slices(graph: Layer, shapes: Shapes) -> dict[Layer, str]:
    """Which channels of a Concat's output the last layer of each branch writes, such as ``y[64:192]``.

    Of a Concat at the end of another's branch there is no output of its own: its branches write to the
    outer one's, and count from there.
    """
    found: dict[Layer, str] = {}

    def visit(layer: Layer, first: int | None) -> None:
        """`first` is the channel at which this layer's y begins in that of a Concat, None outside of one."""
        if isinstance(layer, Concat):
            first = first or 0
            for branch in layer.layers:
                visit(branch, first)
                first += shapes[branch][1][0]
        elif layer.children:
            for child in layer.children:
                ends = isinstance(layer, Sum) or (isinstance(layer, Sequential) and child is layer.layers[-1])
                visit(child, first if ends else None)
        elif first is not None:
            found[layer] = f"y[{first}:{first + shapes[layer][1][0]}]"

    visit(graph, None)
    return found
