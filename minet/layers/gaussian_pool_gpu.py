"""GaussianPool on a GPU: which kernels compute it.

A march down the columns holds a window in registers (``gaussian_pool_march.py``). Windows that are long,
spread by a dilation, or as large as the image take a pass along each axis (``gaussian_pool_axes.py``). A full
Gaussian takes each tap by itself.
"""

from __future__ import annotations

import math
from typing import Any

from minet.core.layer import Array, Shape, State
from minet.layers.gaussian_pool_axes import Axes
from minet.layers.gaussian_pool_march import (
    AT_ONCE,
    MOST,
    MOST_ROWS,
    SHARE,
    THREADS,
    March,
    add_shares,
    make_tables,
)

MARCHED = 15  # the largest window whose rows fit registers
SUMS, KERNELS = 51, 7  # the most sums (of windows under way, and the row) and kernels that do


def plan(layer: Any, shapes: tuple[Shape, Shape] | None = None) -> March:
    """How the layer is computed on those shapes, by default those that it is bound to."""
    on = shapes or layer.bound_shapes
    if layer.full:
        return Full(layer, on)
    window = layer.window_on(on[0])
    fits = max(window.size) <= MARCHED and layer.kernels <= min(KERNELS, SUMS // (window.reach[0] + 2))
    marched = fits and window.dilation == (1, 1) and layer.window is not None
    return March(layer, on) if marched else Axes(layer, on)


def constants(layer: Any) -> dict[str, Any]:
    way = plan(layer)
    AY, AX = way.window.behind
    return way.window.constants() | {
        "AY": AY,
        "AX": AX,
        "KERNELS": layer.kernels,
        "LEARN": int(bool(layer.learn)),
        "NORMALIZE": layer.normalize.upper(),
        "EXACT": int(layer.edge == "exact"),
        "LANES": 2,
        "APART": int(way.apart),
        "RESIDENT": way.resident,
    }


def state(layer: Any, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
    return plan(layer, (in_shape, out_shape)).state()


class Full(March):
    """Each tap by itself."""

    def __init__(self, layer: Any, shapes: tuple[Shape, Shape]) -> None:
        super().__init__(layer, shapes)
        self.apart, self.resident = True, 1

    def table(self) -> int:
        return self.window.places(0) * self.window.places(1) * 6 * math.prod(self.window.size)

    def state(self) -> dict[str, State]:
        layer, C = self.layer, self.shapes[0][0]
        sets = (C if layer.per_channel else 1) * layer.kernels
        state = {"tables": State((sets * self.table(),), per_sample=False)}
        if layer.learn:
            state["parts"] = State((5 * self.shapes[1][0] * MOST,), per_sample=False, scratch=True)
        return state

    def fprop(self, x: Array, y: Array, beta: float) -> None:
        (_, P, Q, N), parts = y.shape, -(-self.layer.kernels // AT_ONCE)
        self.run("fprop", Q * N, len(x) * parts * P, tables=self.tables(x), x=x, y=y, beta=beta)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        layer, (C, H, W, N), tables = self.layer, x.shape, self.tables(x)
        if dx is not None:
            self.run("dx", W * N, C * H, tables=tables, x=x, dy=dy, dx=dx, beta=beta)
        if layer.learn:
            parts, shares = layer.s.parts.reshape(-1), max(1, min(MOST, dy[0].size // (THREADS * SHARE)))
            values = {"grid": (shares, min(len(dy), MOST_ROWS), 1), "block": (THREADS, 1, 1)}
            self.run("shares", tables=tables, x=x, dy=dy, parts=parts, **values)
            add_shares(layer, "gaussian_pool_full_slopes", 5, shares, x=x, parts=parts)

    def run(self, name: str, *sizes: int, **values: Any) -> None:
        values["shared_sets"] = not self.layer.per_channel
        self.layer.be.launch(self.layer, f"gaussian_pool_full_{name}", *sizes, **values)

    def tables(self, x: Array) -> Array | None:
        return make_tables(self.layer, "gaussian_pool_full_weights", self.table(), x=x)
