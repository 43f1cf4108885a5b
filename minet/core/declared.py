"""Checks of what layers declare: parameters, their initial values, and state. Errors name the layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from numbers import Number, Real
from typing import Any

import numpy as np

from minet.core.layer import Layer, Param, Shape, State
from minet.core.settings import is_whole


def declared_params(layer: Layer, in_shape: Shape) -> dict[str, Param]:
    """The result of ``params()``, checked; in a frozen layer none of them learns."""
    params = layer.params(in_shape)
    _check_named(layer, "params", params, Param)
    for name, param in params.items():
        _check_training(layer, name, param)
    if layer.frozen:
        return {name: replace(param, lr=0.0) for name, param in params.items()}
    return params


def declared_states(layer: Layer, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
    """The result of ``state()``, with that of ``state_gpu()`` on a backend with kernels, checked."""
    states: dict[str, State] = {}
    for method in layer.be.declarations:
        found = getattr(layer, method)(in_shape, out_shape)
        _check_named(layer, method, found, State)
        if both := states.keys() & found.keys():
            raise layer.error(f"{method}() declares {min(both)!r} a second time", "rename one")
        states |= found
    for name, state in states.items():
        try:
            fit = state.dtype is None or np.dtype(state.dtype).kind in "bifuc"
        except TypeError:
            fit = False
        if not fit:
            hint = 'use one like "uint8", or None for the net\'s own'
            raise layer.error(f"state() gives {name!r} the invalid dtype {state.dtype!r}", hint)
        if not _fills(state):
            what = f"{state.init!r:.60} of {state.dtype or 'a floating type'}"
            raise layer.error(f"state() gives {name!r} the initial value {what}", "use a number of that type")
    return states


def _check_training(layer: Layer, name: str, param: Param) -> None:
    """Raise unless a solver can do what a parameter says of its training."""
    gives, bounds = f"params() gives {name!r} the", (None, None) if param.bounds is None else param.bounds
    if not isinstance(param.lr, Real) or not math.isfinite(param.lr):
        raise layer.error(f"{gives} lr {param.lr!r:.60}, not a number", "it multiplies the rate; 0 freezes")
    if not isinstance(param.decay, Real):
        raise layer.error(f"{gives} decay {param.decay!r:.60}", "use True or False")
    pair = isinstance(bounds, tuple | list) and len(bounds) == 2
    if not pair or not all(one is None or (isinstance(one, Real) and one == one) for one in bounds):
        raise layer.error(f"{gives} bounds {bounds!r:.60}", "use (low, high), with None for no bound")
    low, high = bounds
    if low is not None and high is not None and low > high:
        raise layer.error(f"{gives} bounds {bounds}, lower above upper")


def _fills(state: State) -> bool:
    """Whether a state's initial value is a number of its type."""
    try:
        np.empty((), state.dtype or float).fill(state.init)
    except (TypeError, ValueError, OverflowError):
        return False
    return isinstance(state.init, Number)  # NumPy takes None for NaN


def all_states(graph: Layer, shapes: dict[Layer, tuple[Shape, Shape]]) -> Iterator[tuple[Layer, str, State]]:
    """Yield every declared state with its layer and name."""
    for layer in graph.walk():
        for name, state in declared_states(layer, *shapes[layer]).items():
            yield layer, name, state


def first_value(layer: Layer, name: str, param: Param, generator: np.random.Generator) -> np.ndarray:
    """The initial value of a parameter, checked."""
    values = param.init(param.shape, generator) if callable(param.init) else param.init
    try:
        first = np.ascontiguousarray(np.broadcast_to(np.asarray(values, dtype=float), param.shape))
    except (TypeError, ValueError):
        what = f"{values!r}" if isinstance(values, str) or values is None else f"of shape {np.shape(values)}"
        hint = "use a number, an array of that shape, or init(shape, rng) such as He()"
        raise layer.error(f"initial {name} {what} does not fit {tuple(param.shape)}", hint) from None
    if not np.isfinite(first).all():
        raise layer.error(f"initial {name} is not finite")
    return first


def _check_named(layer: Layer, method: str, found: Any, kind: type[Param] | type[State]) -> None:
    """Raise unless `found` maps names to `kind`, each with a shape of whole numbers."""
    hint = f'return {{"name": {kind.__name__}(shape)}}'
    if not isinstance(found, dict):
        raise layer.error(f"{method}() must return a dict, got {found!r}", hint)
    for name, item in found.items():
        if not isinstance(item, kind):
            raise layer.error(f"{method}() must return {kind.__name__}s, got {item!r} for {name!r}", hint)
        if not isinstance(name, str) or not name.isidentifier() or hasattr(dict, name):
            raise layer.error(
                f"{method}() has the invalid name {name!r}", "it must read as an attribute: self.p.w"
            )
        whole = isinstance(item.shape, tuple) and all(map(is_whole, item.shape))
        if not whole or min(item.shape, default=0) < 0:
            raise layer.error(
                f"{method}() gives {name!r} the invalid shape {item.shape!r}",
                "use a tuple of whole numbers, such as (3,) or (3, 5)",
            )
