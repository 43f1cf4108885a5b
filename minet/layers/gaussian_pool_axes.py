"""GaussianPool on a GPU, one axis after the other: for long, spread and image-sized windows.

The kernels are in ``kernels/gaussian_pool_axes.cu``.
"""

from __future__ import annotations

from typing import Any

from minet.core.layer import Array, Shape, State
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


class Axes(March):
    """A pass along each axis, first along that which leaves less to do for the other."""

    def __init__(self, layer: Any, shapes: tuple[Shape, Shape]) -> None:
        super().__init__(layer, shapes)
        self.apart, self.resident = True, 1
        (_, H, W), (_, P, Q) = self.shapes
        self.down_first = P * W < H * Q
        # An image as (rows, length, outputs, inner) along either axis, for both passes; inner is without N.
        across, down = (lambda rows: (rows, W, Q, 1)), (lambda width: (1, H, P, width))
        self.passes = (down(W), across(P)) if self.down_first else (across(H), down(Q))

    def state(self) -> dict[str, State]:
        layer, ((C, H, W), (K, P, Q)) = self.layer, self.shapes
        sets = (C if layer.per_channel else 1) * layer.kernels
        between = K * P * W if self.down_first else K * H * Q
        state = {
            "tables": State((sets * self.table(),), per_sample=False),
            "between": State((between,), scratch=True),
            "deltas": State((between,), scratch=True),
        }
        if layer.learn:
            state["parts"] = State((4 * K * MOST,), per_sample=False, scratch=True)
        return state

    def fprop(self, x: Array, y: Array, beta: float) -> None:
        like, tables = (x, y), make_tables(self.layer, "gaussian_pool_axes_weights", self.table(), x=x)
        v = self.between("between", x)
        self.run("first", 0, like, tables, src=x, dst=v)
        self.run("second", 1, like, tables, src=v, dst=y, beta=beta)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        layer, like = self.layer, (x, dy, dx)
        tables = make_tables(layer, "gaussian_pool_axes_weights", self.table(), x=x)
        v, e = self.between("between", x), self.between("deltas", x)
        self.run("back", 1, like, tables, src=dy, dst=e)
        if layer.learn:
            self.run("first", 0, like, tables, src=x, dst=v)
            parts, most = layer.s.parts.reshape(-1), max(e.size, dy.size) // len(dy)
            shares = max(1, min(MOST, most // (THREADS * SHARE)))
            grid = {"grid": (shares, min(len(dy), MOST_ROWS), 1), "block": (THREADS, 1, 1)}
            self.run("shares", 0, like, tables, src=x, delta=e, parts=parts, first=1, **grid)
            self.run("shares", 1, like, tables, src=v, delta=dy, parts=parts, first=0, **grid)
            add_shares(layer, "gaussian_pool_axes_slopes", 4, shares, x=x, parts=parts)
        if dx is not None:
            self.run("dx", 0, like, tables, src=e, dst=dx, beta=beta)

    def between(self, name: str, x: Array) -> Array:
        """What lies between the passes, of as many samples as x has."""
        memory = self.layer.s[name]
        return memory.reshape(-1)[: memory.size // memory.shape[-1] * x.shape[3]]

    def run(self, name: str, number: int, like: tuple[Any, ...], tables: Array | None, **values: Any) -> None:
        """Launch a kernel for pass 0 or 1, with as many samples at once as the images `like` allow."""
        layer, x = self.layer, like[0]
        (C, *_, N), (rows, length, outs, width) = x.shape, self.passes[number]
        inner, down = width * N, (number == 0) == self.down_first
        values |= {"x": x, "lines": rows, "length": length, "outs": outs, "inner": inner, "down": int(down)}
        values |= {"tables": tables, "shared_sets": not layer.per_channel}
        sizes = () if "grid" in values else (inner, C * rows * self.lines(name, length, outs))
        lanes = {"LANES": layer.be.lanes(2, *like)}
        layer.be.launch(layer, f"gaussian_pool_axes_{name}", *sizes, constants=lanes, **values)

    def lines(self, name: str, length: int, outs: int) -> int:
        """Rows of threads that a kernel needs for each row of a channel."""
        kernels = self.layer.kernels
        return {
            "first": -(-kernels // AT_ONCE) * outs,
            "second": kernels * outs,
            "back": kernels * length,
            "dx": length,
        }[name]
