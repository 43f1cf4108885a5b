"""Weights from PyTorch: a state_dict read into a net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.core.net import Net
from minet.torch.modules import Module

# PyTorch's names of parameters, by minet's; others, such as running_mean, are the same.
RENAMED = {"w": "weight", "b": "bias", "gamma": "weight", "shift": "bias", "a": "weight"}
IGNORED = "num_batches_tracked"  # which PyTorch's BatchNorm needs only if it has no momentum


def graph_of(net: Any) -> Layer:
    """The bound graph of a net or of a module."""
    if isinstance(net, Net):
        net.steps.settle()
        return net.graph
    if isinstance(net, Module):
        graph: Layer = net.layer
        return graph
    hint = "Net(...), or minet.torch.module(...)"
    raise MinetError(f"expected a Net or a Module of minet.torch, got {net!r:.80}", hint)


def load(net: Any, state_dict: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
    """Read a state_dict of PyTorch into a net, or into a `Module`: all of it, or nothing.

    Parameters
    ----------
    net : Net or Module
    state_dict : mapping of str to Tensor
        Of PyTorch's layers or of minet's modules. What it calls ``weight`` and ``bias`` are here ``w`` and
        ``b``, or ``a`` of PReLU, or ``gamma`` and ``shift`` of BatchNorm.
    names : mapping of str to str, optional
        Where the arrays of a layer are, by the layer's path: ``{"0/2": "features.3", "5": "classifier"}``.
        A layer that is not in it has its path with points: ``0.2``.

    Raises
    ------
    MinetError
        If an array is missing, has another shape, or is left over; or if there is no such path.
    """
    graph = graph_of(net)
    names, faults = dict(names or {}), list[str]()
    layers = {layer.path: layer for layer in graph.walk()} | {
        layer.full_path: layer for layer in graph.walk()
    }
    faults += [f"the net has no layer {path!r}" for path in names if path not in layers]
    wanted = {layers[path].path: prefix for path, prefix in names.items() if path in layers}
    left = {key for key in state_dict if not key.endswith(IGNORED)}
    found: list[tuple[Layer, Any, np.ndarray]] = []
    for layer, name, target in _arrays(graph):
        prefix = wanted.get(layer.path, layer.path.replace("/", "."))
        keys = [f"{prefix}.{one}".lstrip(".") for one in (RENAMED.get(name, name), name)]
        key = next((key for key in keys if key in state_dict), None)
        if key is None:
            faults.append(f"there is no {keys[0]} for {layer.full_path}.{name}")
            continue
        left.discard(key)
        value, shape = state_dict[key], tuple(target.shape)
        if not isinstance(value, torch.Tensor) or _bare(tuple(value.shape)) != _bare(shape):
            what = tuple(value.shape) if isinstance(value, torch.Tensor) else f"{value!r:.40}"
            faults.append(f"{key} is {what}, {layer.full_path}.{name} is {shape}")
            continue
        found.append((layer, target, value.detach().cpu().to(torch.float64).numpy().reshape(shape)))
    faults += [f"nothing in the net takes {key}" for key in sorted(left)]
    if faults:
        more = [f"and {len(faults) - 9} more"] if len(faults) > 9 else []
        raise MinetError(
            "the state_dict does not fit the net: " + "\n  ".join([*faults[:9], *more]),
            'names={"0/2": "features.3"} says where the arrays of layer 0/2 are',
        )
    for layer, target, value in found:
        layer.be.copy(value.astype(target.dtype), target)


def _arrays(graph: Layer) -> Iterator[tuple[Layer, str, Any]]:
    """Yield all parameters, those of twins once, and running statistics."""
    for layer in graph.walk():
        if not layer.tied:
            yield from ((layer, name, value) for name, value in layer.p.items())
        states = layer.state(*layer.bound_shapes)
        yield from ((layer, name, layer.s[name]) for name, state in states.items() if state.persistent)


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of size 1: a Linear's weights fit a 1x1 convolution."""
    return tuple(size for size in shape if size != 1)
