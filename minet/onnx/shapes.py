"""ONNX's operators that change how an activation is seen: none of them is a layer.

minet keeps every activation as (C, H, W); Linear flattens by itself, in ONNX's order. A Pad becomes part of
the next Conv's or pool's pads.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from typing import Any

from minet.onnx.graph import Leaf
from minet.onnx.node import NO_PADS, Node


def identity(node: Node) -> list[Leaf]:
    return []


def cast(node: Node) -> list[Leaf]:
    for of_small_floats in ("saturate", "round_mode"):
        node.attribute(of_small_floats)
    if node.attribute("to") != 1:
        raise node.unmet("casts an activation to another type than float32")
    return []


def flatten(node: Node) -> list[Leaf]:
    axis = node.attribute("axis", 1)
    if axis % (1 + len(node.x.dims)) != 1:
        raise node.unmet(f"axis={axis} joins samples of the batch, or keeps more than one axis")
    return _seen_as(node, (node.x.size,))


def reshape(node: Node) -> list[Leaf]:
    shape = node.listed("shape", 1) or []
    if node.attribute("allowzero", 0) and 0 in shape:
        raise node.unmet(f"{shape} with allowzero=1 makes empty tensors")
    before = (-1, *node.x.dims)
    sizes = [before[i] if size == 0 and i < len(before) else size for i, size in enumerate(shape)]
    rest = sizes[1:]
    known = math.prod(size for size in rest if size != -1)
    if rest.count(-1) == 1 and known > 0:
        rest[rest.index(-1)] = node.x.size // known
    if not sizes or sizes[0] not in (-1, node.batch) or math.prod(rest) != node.x.size:
        raise node.unmet(f"{shape} does not keep the samples of {node.x.dims} apart")
    return _seen_as(node, tuple(rest))


def squeeze(node: Node) -> list[Leaf]:
    axes = node.listed("axes", 1)
    rank = 1 + len(node.x.dims)
    gone = {axis % rank for axis in axes} if axes else {i for i, n in enumerate(node.x.dims, 1) if n == 1}
    return _seen_as(node, tuple(size for i, size in enumerate(node.x.dims, 1) if i not in gone), {0} & gone)


def unsqueeze(node: Node) -> list[Leaf]:
    axes = node.listed("axes", 1) or []
    sizes: list[int] = [0, *node.x.dims]
    for axis in sorted(axis % (len(sizes) + len(axes)) for axis in axes):
        sizes.insert(axis, 1)
    return _seen_as(node, tuple(sizes[1:]), sizes[:1] == [1])


def _seen_as(node: Node, dims: tuple[int, ...], moved: Any = False) -> list[Leaf]:
    """The input in another shape with the same numbers in the same order; minet has (C, H, W) for all."""
    x = node.x
    if moved or len(dims) not in (1, 3) or (len(dims) == 3 and dims != x.shape):
        raise node.unmet(f"{x.shape} as {dims}: minet has no layer that reshapes, but flattening before Gemm")
    node.made = x._replace(flat=len(dims) == 1)
    return []


def pad(node: Node) -> list[Leaf]:
    node.image()
    pads, axes = node.listed("pads", 1) or [], node.listed("axes", 3, [0, 1, 2, 3]) or []
    value = node.number(2, node.attribute("value", 0.0))
    lowest = value < -3.4e38
    if node.attribute("mode", "constant") != "constant" or (value and not lowest):
        raise node.unmet("only pads of zeros or of -inf can be joined with the next Conv's or pool's")
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        raise node.unmet(f"pads {pads} are not around H and W")
    sides = dict.fromkeys(range(8), 0)  # ONNX has first what is before each axis
    sides |= zip([axis % 4 + behind for behind in (0, 4) for axis in axes], pads, strict=True)
    if any(sides[i] for i in (0, 1, 4, 5)):
        raise node.unmet(f"pads {pads} are not around H and W")
    if node.x.pads != NO_PADS and node.x.lowest != lowest:
        raise node.unmet("a Pad of another number before it")
    top, left, bottom, right = (sides[i] + own for i, own in zip((2, 3, 6, 7), node.x.pads, strict=True))
    node.made = node.x._replace(pads=(top, left, bottom, right), lowest=lowest)
    return []


SHAPES = {
    "Cast": cast,
    "Flatten": flatten,
    "Identity": identity,
    "Pad": pad,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
}
