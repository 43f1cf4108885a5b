"""One fprop and one bprop of any layer or container on plain NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet.backends import Backend
from minet.core.blame import blaming
from minet.core.containers import Sequential
from minet.core.declared import all_states
from minet.core.errors import MinetError
from minet.core.layer import Layer, Shape
from minet.core.net import Net
from minet.core.node import Named


@dataclass
class Run:
    """The results of `run`, as NumPy arrays.

    Attributes
    ----------
    y, dx : ndarray (K, P, Q, N) and (C, H, W, N); dx is None without a dy
    grads, state : dict of str to ndarray
        By the layer's own names; for a container by path, such as ``"0/conv.w"``.
    """

    y: np.ndarray
    dx: np.ndarray | None
    grads: Named
    state: Named


def run(
    layer: Layer | Iterable[Any],
    x: np.ndarray,
    dy: np.ndarray | None = None,
    *,
    params: dict[str, Any] | None = None,
    beta_y: float = 0.0,
    y0: np.ndarray | None = None,
    beta_dx: float = 0.0,
    dx0: np.ndarray | None = None,
    train: bool = True,
    seed: int = 0,
    step: int = 0,
    part: tuple[int, int] | None = None,
    backend: str | Backend = "cpu",
    dtype: str | None = None,
) -> Run:
    """Run one fprop, and one bprop if `dy` is given, of a layer or container on NumPy arrays in CHWN.

    The layer itself stays unbound and unchanged: a clone of it runs.

    Parameters
    ----------
    layer : Layer, or list of layers
    x : ndarray (C, H, W, N)
    dy : ndarray (K, P, Q, N), optional
    params : dict, optional
        Values to use instead of the initial ones, by the layer's own names (by path for a container).
    beta_y, y0, beta_dx, dx0 :
        ``y <- beta_y*y0 + f(x)`` and ``dx <- beta_dx*dx0 + J^T dy``; without y0 or dx0 the
        destination holds NaN, which a beta of 0 must not let through.
    train : bool
    seed, step : int
        They determine initial values and random draws.
    part : (first, whole), optional
        x has samples first .. first + N - 1 of a batch of `whole`, and draws what they would there.
    dtype : str, optional
        "float32" or "float64"; by default float64 if x is, otherwise float32.
    """
    x = np.asarray(x)
    if x.ndim != 4:
        raise MinetError(f"x must be (C, H, W, N), got shape {x.shape}")
    dtype = dtype or ("float64" if x.dtype == np.float64 else "float32")
    graph = layer if isinstance(layer, Layer) else Sequential(*layer)
    net = Net(graph.clone(), x.shape[:3], x.shape[3], backend=backend, seed=seed, dtype=dtype)
    be, graph = net.be, net.graph
    net.clock.step, net.clock.part = step, part
    _set_params(net, params or {})
    native_x = be.array(np.array(x, dtype, order="C"))
    y = _destination(net, (*net.output_shape, net.batch), y0, "y0")
    with blaming():
        graph.fprop(native_x, y, beta_y, train)
    dx = None
    if dy is not None:
        dx = _destination(net, x.shape, dx0, "dx0")
        if np.shape(dy) != y.shape:
            raise MinetError(f"dy must have y's shape {y.shape}, got {np.shape(dy)}")
        with blaming():
            graph.bprop(native_x, be.array(np.array(dy, dtype, order="C")), dx, beta_dx)

    def out(array: Any) -> np.ndarray:
        return np.array(be.get(array))

    grads = Named(
        {name: out(grad) for name, grad in _by_name(net, net.grads).items()} if dy is not None else {}
    )
    states = {
        f"{node.full_path}.{name}": node.s[name]
        for node, name, state in all_states(graph, net.shapes)
        if not state.scratch
    }
    state = Named({name: out(value) for name, value in _by_name(net, states).items()})
    return Run(out(y), None if dx is None else out(dx), grads, state)


def _by_name(net: Net, by_path: dict[str, Any]) -> dict[str, Any]:
    """Key the arrays of a lone layer by their own names instead of paths."""
    return by_path if net.graph.children else {path.rpartition(".")[2]: a for path, a in by_path.items()}


def _set_params(net: Net, params: dict[str, Any]) -> None:
    known = _by_name(net, net.params) | net.params
    for name, value in params.items():
        if name not in known:
            raise MinetError(
                f"there is no parameter {name!r}", f"the parameters are: {', '.join(known) or 'none'}"
            )
        value = np.asarray(value, net.be.dtype)
        if value.shape not in ((), known[name].shape):
            raise MinetError(f"{name} has shape {known[name].shape}, got {value.shape}")
        net.be.copy(np.array(np.broadcast_to(value, known[name].shape)), known[name])


def _destination(net: Net, shape: Shape, first: np.ndarray | None, name: str) -> Any:
    if first is not None and np.shape(first) != tuple(shape):
        raise MinetError(f"{name} must have shape {tuple(shape)}, got {np.shape(first)}")
    return net.be.array(np.array(np.full(shape, np.nan) if first is None else first, net.be.dtype, order="C"))
