"""Clones of the layers inside a layer."""

from __future__ import annotations

from typing import Any


def clone_children(layer: Any, other: Any) -> None:
    """Put clones of a layer's children in their place in `other`, a copy of it; twins stay twins."""
    inside = {id(child): child.clone() for child in layer.children}
    vars(other).update({name: _with(value, inside) for name, value in vars(other).items()})
    copies = dict(zip(layer.walk(), other.walk(), strict=True))
    for original, copy in copies.items():
        if original.tied in copies and original is not copy:
            copy.tied = copies[original.tied]


def _with(value: Any, inside: dict[int, Any]) -> Any:
    """A value with the clones in it, in lists, tuples and dicts too."""
    if type(value) in (list, tuple):
        return type(value)(_with(one, inside) for one in value)
    if type(value) is dict:
        return {name: _with(one, inside) for name, one in value.items()}
    return inside.get(id(value), value)
