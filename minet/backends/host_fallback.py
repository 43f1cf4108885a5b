"""Nodes without a CUDA kernel, which a GPU backend computes on the cpu, on copies of their arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from minet.backends.base import Backend
from minet.backends.cpu import CPU
from minet.backends.first_call import WRITTEN
from minet.core.layer import Layer
from minet.core.node import LayerError, Named, Node


class HostWarning(UserWarning):
    """A layer without a kernel computes on the host: its arrays are copied there and back at each call."""


def refusal(node: Node) -> LayerError:
    """The error that a strict backend raises for a layer or loss without kernels."""
    found = "has no kernel, and --strict forbids computing it on the host"
    return node.error(found, f"write {node.stem()}.cu next to its file")


def check_kernels(be: Any, graph: Layer) -> None:
    """If a backend is strict, refuse layers without kernels before anything runs."""
    for layer in graph.walk() if getattr(be, "strict", False) else ():
        if not layer.children and not be.native(layer):
            raise refusal(layer)


def run(be: Backend, warned: set[str], node: Node, phase: str, args: tuple[Any, ...]) -> Any:
    """Run a phase on the cpu; `warned` holds the nodes already warned about."""
    if node.where not in warned:
        warned.add(node.where)
        what = f"{node.where} has no kernel: it computes on the host, and its arrays are copied at each call"
        warnings.warn(HostWarning(what), stacklevel=2)
    host = CPU("float32")
    host.tried = be.tried
    copies = [np.array(be.get(a)) if hasattr(a, "dtype") else a for a in args]
    native = node.p, node.g, node.s
    p, g, s = (Named({name: np.array(be.get(a)) for name, a in arrays.items()}) for arrays in native)
    try:
        _bind(node, host, p, g, s)
        result = host.run(node, phase, *copies)
    finally:
        _bind(node, be, *native)
    for arrays, changed in zip(native[1:], (g, s), strict=True):
        for name, array in arrays.items():
            be.copy(changed[name], array)
    _, written = WRITTEN[phase]
    if args[written] is not None:
        be.copy(copies[written], args[written])
    return result


def _bind(node: Node, be: Backend, p: Named, g: Named, s: Named) -> None:
    vars(node).update(be=be, p=p, g=g, s=s)  # not setattr: a loss may be a frozen dataclass
    node.on_bind()
