"""Nodes without a CUDA kernel: a GPU's backend computes them on the cpu, on copies of their arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from minet.backends.base import Backend
from minet.backends.cpu import CPU
from minet.core.layer import Layer
from minet.core.node import LayerError, Named, Node

WRITTEN = {"fprop": 1, "bprop": 2, "loss": 2}  # which argument of a phase is what it computes


class HostWarning(UserWarning):
    """A layer without a kernel computes on the host: its arrays travel there and back at each call."""


def refusal(node: Node) -> LayerError:
    """The error of a strict backend about a layer, or a loss, without kernels."""
    found = "has no kernel, and --strict allows no round trip through the host"
    return node.error(found, f"write {node.stem()}.cu beside its file")


def check_kernels(be: Any, graph: Layer) -> None:
    """If a backend is strict, raise its error about a layer without kernels before anything runs."""
    for layer in graph.walk() if getattr(be, "strict", False) else ():
        if not layer.children and not be.native(layer):
            raise refusal(layer)


def run(be: Backend, warned: set[str], node: Node, phase: str, args: tuple[Any, ...]) -> Any:
    """Run a phase on the cpu; `warned` holds the nodes of which the user was warned before."""
    if node.where not in warned:
        warned.add(node.where)
        what = f"{node.where} has no kernel: it computes on the host, its arrays travel at each call"
        warnings.warn(HostWarning(what), stacklevel=2)
    host = CPU("float32")
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
    written = WRITTEN[phase]
    if args[written] is not None:
        be.copy(copies[written], args[written])
    return result


def _bind(node: Node, be: Backend, p: Named, g: Named, s: Named) -> None:
    vars(node).update(be=be, p=p, g=g, s=s)  # past frozen dataclasses, which losses may be
    node.on_bind()
