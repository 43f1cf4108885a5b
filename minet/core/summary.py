"""A net as a table: path, layer, output and parameters of each layer, then the totals."""

from __future__ import annotations

from typing import Any

from minet.core.layer import Layer
from minet.core.memory import Shapes


def table(be: Any, graph: Layer, shapes: Shapes, where: str) -> str:
    """The text of `Net.summary`; `where` ends it, with batch, type, memory and backend."""
    rows = [("path", "layer", "output (C, H, W)", "parameters")]
    total = 0
    for layer in graph.walk():
        if not layer.children:
            count = sum(value.size for value in layer.p.values())
            total += 0 if layer.tied else count
            shape = "x".join(map(str, shapes[layer][1]))
            name = repr(layer) if be.native(layer) else f"{layer!r} *"
            rows.append((layer.path, name, shape, "shared" if layer.tied and count else f"{count:,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip()
        for a, b, c, d in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    if any(row[1].endswith(" *") for row in rows):
        lines += ["", f"* no kernel: runs on the host; its arrays leave {be.name} and come back at each call"]
    size = "x".join(map(str, shapes[graph][0]))
    return "\n".join([*lines, "", f"{total:,} parameters, input {size}, {where}"])
