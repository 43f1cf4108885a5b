"""Whether anything that layers compute from in Python has changed: their attributes, and what those hold."""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

from minet.core.node import Node

SET_BY_STEPS = ("train",)  # by each fprop
NOT_SETTINGS = ("be", "clock", "bound_shapes", "p", "g", "s", "made_at", "_call")  # the net's, or for names
PLAIN = (int, float, complex, str, bytes, bool, type(None))
OPAQUE = (*PLAIN, type, FunctionType, BuiltinFunctionType, ModuleType, Node)


class Watch:
    """A snapshot of some nodes' attributes, to be compared with what they are later.

    Attributes are compared by identity, which is fast; numbers and texts that are not the same objects, by
    value. Lists, dicts, sets, host arrays and other objects are looked into.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.kept: list[tuple[str, Any, list[Any], list[Any]]] = []
        self.arrays: list[tuple[str, np.ndarray, bytes]] = []
        self._seen: set[int] = set()
        for node in nodes:
            self._keep(node.where, vars(node))

    def _keep(self, where: str, space: Any) -> None:
        """Keep a dict, a list, a set or a tuple, and what its values hold."""
        self._seen.add(id(space))
        names, values = _items(space)
        if not isinstance(space, tuple):
            self.kept.append((where, space, names, values))
        for name, value in zip(names, values, strict=True):
            if name not in (*SET_BY_STEPS, *NOT_SETTINGS) and id(value) not in self._seen:
                self._look_into(f"{where}: {name}", value)

    def _look_into(self, where: str, value: Any) -> None:
        if isinstance(value, OPAQUE) or hasattr(value, "__cuda_array_interface__"):
            return
        if isinstance(value, np.ndarray):
            self.arrays.append((where, value, value.tobytes()))
        elif isinstance(value, (dict, list, set, frozenset, tuple)):
            self._keep(where, value)
        elif hasattr(value, "__dict__"):
            self._seen.add(id(value))  # objects may refer to each other
            self._keep(where, vars(value))

    def changed(self) -> str:
        """The place and name of the first setting that differs; empty if none does."""
        for where, space, names, values in self.kept:
            if len(space) == len(values) and all(map(is_, _values(space), values)):
                continue
            now_names, now = _items(space)
            if now_names != names:
                return where
            for name, old, new in zip(names, values, now, strict=True):
                if name not in SET_BY_STEPS and old is not new and not _equal(old, new):
                    return f"{where}: {name}"
        return next((where for where, array, old in self.arrays if array.tobytes() != old), "")


def _values(space: Any) -> Iterable[Any]:
    return space.values() if isinstance(space, dict) else space


def _items(space: Any) -> tuple[list[Any], list[Any]]:
    if isinstance(space, dict):
        return list(space), list(space.values())
    values = list(space)
    return list(range(len(values))), values


def _equal(old: Any, new: Any) -> bool:
    return type(old) is type(new) and isinstance(old, PLAIN) and bool(old == new)
