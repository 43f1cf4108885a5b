"""Layers without a kernel: a GPU's backend computes them on the cpu, on copies of their arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minet.backends.cpu import CPU
from minet.errors import MinetError
from minet.layer import Layer, Named
from minet.naming import stem_of

if TYPE_CHECKING:
    from minet.backends.gpu import GPU

WRITTEN = {"fprop": 1, "bprop": 2, "loss": 2}  # which argument of a phase is what it computes


class HostWarning(UserWarning):
    """A layer without a kernel computes on the host: its arrays travel there and back at each call."""


def refusal(layer: Any) -> MinetError:
    """What `strict` says of a layer, or a loss, without kernels."""
    found = "has no kernel, and --strict allows no round trip through the host"
    hint = f"write {stem_of(type(layer).__name__)}.cu beside its file"
    return layer.error(found, hint) if isinstance(layer, Layer) else MinetError(f"{layer!r} {found}", hint)


def check_kernels(be: Any, graph: Layer) -> None:
    """Raise what `strict` says, if a backend is strict, before anything runs."""
    for layer in graph.walk() if getattr(be, "strict", False) else ():
        if not layer.children and not be.native(layer):
            raise refusal(layer)


def run(be: GPU, warned: set[str], layer: Any, phase: str, args: tuple[Any, ...]) -> Any:
    """Run a phase on the cpu; `warned` holds the layers of which that was said before."""
    where = layer.where if isinstance(layer, Layer) else type(layer).__name__
    if be.strict:
        raise refusal(layer)
    if where not in warned:
        warned.add(where)
        said = f"{where} has no kernel: it computes on the host, its arrays travel at each call"
        warnings.warn(HostWarning(said), stacklevel=2)
    host = CPU("float32")
    copies = [np.array(be.get(a)) if hasattr(a, "dtype") else a for a in args]
    if not isinstance(layer, Layer):
        result = host.run(layer, phase, *copies)
    else:
        result = _with_host_arrays(be, layer, lambda: host.run(layer, phase, *copies), host)
    written = WRITTEN[phase]
    if args[written] is not None:
        be.copy(copies[written], args[written])
    return result


def _with_host_arrays(be: GPU, layer: Layer, code: Callable[[], Any], host: CPU) -> Any:
    native = layer.p, layer.g, layer.s
    copies = tuple(Named({k: np.array(be.get(a)) for k, a in named.items()}) for named in native)
    try:
        (layer.p, layer.g, layer.s), layer.be = copies, host
        layer.on_bind()
        result = code()
    finally:
        (layer.p, layer.g, layer.s), layer.be = native, be
        layer.on_bind()
    for named, changed in zip(native[1:], copies[1:], strict=True):
        for name, array in named.items():
            be.copy(changed[name], array)
    return result
