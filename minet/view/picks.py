"""What the MaxPools and StochasticPools of a net pick on given images."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet.core.layer import Array, Layer
from minet.core.net import Net
from minet.core.window import Window
from minet.layers.max_pool import MaxPool
from minet.layers.stochastic_pool import StochasticPool

DRAWS = 3  # of a StochasticPool, at the steps 0, 1, 2


@dataclass(frozen=True)
class Picks:
    """What one layer saw and picked.

    Attributes
    ----------
    path, call : str
        Such as ``5`` and ``StochasticPool(2)``.
    window : Window
    x : ndarray (C, H, W, N)
        What the layer saw in evaluation mode.
    taps : list of ndarray (C, P, Q, N)
        The tap picked in each window, as in the layer's `argmax` or `picked`, once or for each draw.
    chances : ndarray (C, H, W, N) or None
        Of a StochasticPool, the mean number of windows that pick a position.
    """

    path: str
    call: str
    window: Window
    x: np.ndarray
    taps: list[np.ndarray]
    chances: np.ndarray | None = None


def picks(net: Net, images: np.ndarray) -> list[Picks]:
    """Run a net on images ``(N, C, H, W)``, normalised, and say what each of its pooling layers picks.

    The net computes in evaluation mode; a StochasticPool then draws from what it saw. The net's batch becomes
    the number of images.
    """
    net.resize(len(images))
    seen: dict[Layer, np.ndarray] = {}
    with _watching(
        [layer for layer in net.graph.walk() if isinstance(layer, (MaxPool, StochasticPool))], seen
    ):
        net.fprop(np.ascontiguousarray(images.transpose(1, 2, 3, 0), net.be.dtype))
    return [_picks(net, layer, x) for layer, x in seen.items()]


@contextlib.contextmanager
def _watching(layers: list[Layer], seen: dict[Layer, np.ndarray]) -> Iterator[None]:
    """Keep a copy of each x that these layers are given."""

    def watched(layer: Layer) -> Any:
        fprop = layer.fprop

        def keeping(x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
            seen[layer] = np.array(layer.be.get(x))
            fprop(x, y, beta, train)

        return keeping

    try:
        for layer in layers:
            vars(layer)["fprop"] = watched(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("fprop", None)


def _picks(net: Net, layer: Layer, x: np.ndarray) -> Picks:
    assert isinstance(layer, (MaxPool, StochasticPool))
    state, times = ("argmax", 1) if isinstance(layer, MaxPool) else ("picked", DRAWS)
    y = net.be.array(np.zeros((*layer.bound_shapes[1], net.batch), net.be.dtype))
    taps, now = list[np.ndarray](), net.clock.now
    for net.clock.step in range(times):
        layer.fprop(net.be.array(x), y, 0.0, train=True)
        taps.append(np.array(net.be.get(layer.s[state])))
    net.clock.step = now
    mean = chances(layer.window, x) if isinstance(layer, StochasticPool) else None
    return Picks(layer.path, repr(layer), layer.window, x, taps, mean)


def positions(window: Window, taps: np.ndarray) -> np.ndarray:
    """Where the picks of an image's windows ``(P, Q)`` are: rows (h, w), none for a window that picked none.

    Tap ``r*S + s`` of the window (p, q) is at ``h = p*stride - pad + r*dilation``, and likewise w.
    """
    R, S = window.size
    p, q = np.nonzero(taps < R * S)
    r, s = np.divmod(taps[p, q].astype(int), S)
    (SY, SX), (PY, PX), (DY, DX) = window.stride, window.pad, window.dilation
    return np.stack([p * SY - PY + r * DY, q * SX - PX + s * DX], axis=1)


def chances(window: Window, x: np.ndarray) -> np.ndarray:
    """How many windows pick each position of ``(C, H, W, N)`` on average: the sum of ``a / sum a``."""
    window = window.on(x.shape[:3])
    a = np.where(np.isfinite(x), np.maximum(x, 0), 0).astype(np.float64)
    taps = window.taps(window.padded(a))
    total = taps.sum(axis=(0, 1))
    added = np.zeros_like(window.padded(a))
    into = window.taps(added)
    for r, s in np.ndindex(*window.size):
        into[r, s] += taps[r, s] / np.where(total > 0, total, math.inf)
    return np.array(window.inside(added))
