"""The first call of a class's phase in training, and in evaluation: whether its code writes what it must."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minet.core.loss.base import number
from minet.core.node import Node

WRITTEN = {"fprop": ("y", 1), "bprop": ("dx", 2), "loss": ("dy", 2)}  # what a phase writes: name and index
MARKS = {4: np.uint32(0x7FC05EED), 8: np.uint64(0x7FF8000000005EED)}  # NaNs that arithmetic does not make


def run(tried: set[tuple[type, str, bool]], node: Node, phase: str, code: Any, args: tuple[Any, ...]) -> Any:
    """Run a phase on the cpu; the first time that it overwrites an array, see that it does.

    Nothing is seen where the array is added to (a beta that is not 0), or shares memory with another
    argument, as in place.

    Raises
    ------
    LayerError
        If an element is left as it was.
    """
    name, index = WRITTEN[phase]
    target = args[index] if len(args) > index else None
    if not isinstance(target, np.ndarray) or (phase != "loss" and args[index + 1] != 0):
        return code(*args)
    tried.add((type(node), phase, node.train))
    others = (a for i, a in enumerate(args) if i != index and isinstance(a, np.ndarray))
    if not target.size or target.itemsize not in MARKS or any(np.may_share_memory(target, a) for a in others):
        return code(*args)
    mark: Any = MARKS[target.itemsize]
    bits = target.view(mark.dtype)
    bits[...] = mark
    result = code(*args)
    if result is None or (phase == "loss" and math.isfinite(number(node, result))):
        left = bits == mark
        if left.any():
            at = ", ".join(str(i) for i in np.argwhere(left)[0])
            what = f"did not write {name}" if left.all() else f"did not write {name}[{at}]"
            hint = f"{name}[...] = value writes; {name} = value only names it anew, and 0 * {name} reads it"
            raise node.error(f"{phase}_cpu {what}", hint)
    return result


def returned(node: Node, phase: str, result: Any) -> Exception:
    """The error about a phase that returns what it must write."""
    name, _ = WRITTEN[phase]
    found = f"an array of shape {result.shape}" if isinstance(result, np.ndarray) else f"{result!r:.60}"
    message = f"{phase}_cpu returned {found}; it must write into {name} and return nothing"
    return node.error(message, f"end it with update({name}, value, beta), from minet")
