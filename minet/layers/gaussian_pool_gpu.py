"""GaussianPool on a GPU: which kernels compute it, their grids, and the memory that they share.

A march down the columns holds a window in registers. Windows that are long, spread by a dilation, or as large
as the image take a pass along each axis. A full Gaussian takes each tap by itself.
"""

from __future__ import annotations

import math
from typing import Any

from minet.core.layer import Array, Shape, State
from minet.core.window import Window, bands

THREADS = 256  # per block
HELD = 40 << 10  # most bytes of tables in a block's shared memory
MARCHED = 15  # the largest window whose rows fit registers
SUMS, KERNELS = 51, 7  # the most sums (of windows under way, and the row) and kernels that do
AT_ONCE = 4  # kernels that a thread computes together; kernels/gaussian_pool.cuh has the same
SHARE = 16  # elements that a thread adds up to a share of a slope
MOST = 256  # shares of a kernel's slope on a channel
MOST_ROWS = 65535  # of blocks in a grid; kernels stride over the rest


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


class March:
    """One pass over the images, down the columns.

    Attributes
    ----------
    apart : bool
        Whether tables are too large for a block, so that a launch of their own makes them.
    resident : int
        Blocks per multiprocessor: more of them hide memory latency, as far as registers allow.
    """

    def __init__(self, layer: Any, shapes: tuple[Shape, Shape]) -> None:
        self.layer, self.shapes = layer, shapes
        self.window: Window = layer.window_on(self.shapes[0])
        rows, (down, across), kernels = self.window.size[0], self.window.reach, layer.kernels
        self.apart = kernels * self.table() * 4 > HELD
        self.resident = 2 if rows <= 11 and across <= 6 and kernels * down <= 24 else 1
        if rows <= 3 and kernels == 1:
            self.resident = 4

    def table(self) -> int:
        """Numbers in one kernel's tables: three for each tap of each distinct window, along both axes."""
        (R, S), down, across = self.window.size, self.window.places(0), self.window.places(1)
        return 3 * (down * -(-R // 4) * 4 + (across + 1) * -(-S // 4) * 4)

    def grid(self, C: int, rows: int, width: int, N: int, reach: int, lanes: int = 1) -> tuple[Shape, Shape]:
        """Blocks and threads for marches down `rows` rows in `width` columns of C channels.

        Neighbours along N are neighbours in a block; bands of rows overlap by less than `reach`.
        """
        groups = N // lanes
        n = min(32, 1 << groups.bit_length() - 1)
        columns = max(32 // n, min(THREADS // n, 1 << (width - 1).bit_length()))
        across = -(-groups // n) * -(-width // columns)
        return (across * C, bands(C * width * groups, rows, reach), 1), (n, columns, 1)

    def state(self) -> dict[str, State]:
        layer, (C, H, W), state = self.layer, self.shapes[0], dict[str, State]()
        if self.apart:
            sets = (C if layer.per_channel else 1) * layer.kernels
            state["tables"] = State((sets * self.table(),), per_sample=False)
        if layer.learn:  # four sums per block; N samples take at most 2N times the blocks of one
            blocks = math.prod(self.grid(C, H, W, 1, self.window.size[0])[0])
            state["parts"] = State((2 * 4 * layer.kernels * blocks,), scratch=True)
        return state

    def fprop(self, x: Array, y: Array, beta: float) -> None:
        (_, P, Q, N), lanes = y.shape, self.layer.be.lanes(2, x, y)
        grid, block = self.grid(len(x), P, Q, N, self.window.reach[0], lanes)
        self.launch("fprop", grid, block, x=x, y=y, beta=beta)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        layer, (C, H, W, N), lanes = self.layer, x.shape, self.layer.be.lanes(2, x, dy, dx)
        grid, block = self.grid(C, H, W, N, self.window.size[0], lanes)
        parts = layer.s.parts.reshape(-1) if layer.learn else None
        self.launch("bprop", grid, block, x=x, dy=dy, dx=dx, beta=beta, parts=parts)
        if parts is not None:
            add_shares(layer, "gaussian_pool_slopes", 4, math.prod(grid) // C, x=x, parts=parts)

    def launch(self, phase: str, grid: Shape, block: Shape, **values: Any) -> None:
        """Launch one pass over the images, after one for the tables if a block cannot hold them."""
        values["tables"] = make_tables(self.layer, "gaussian_pool_weights", self.table(), **values)
        values["shared_sets"] = not self.layer.per_channel
        self.layer.be.launch(self.layer, f"gaussian_pool_{phase}", grid=grid, block=block, **values)


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


def make_tables(layer: Any, name: str, size: int, **values: Any) -> Array | None:
    """Launch what makes the tables, if they are in memory of their own."""
    if "tables" not in layer.s:
        return None
    sets = layer.p.mean.size // 2
    values |= {"sets": sets, "tables": layer.s.tables}
    layer.be.launch(layer, name, sets * size, **values)
    return layer.s.tables


def add_shares(layer: Any, name: str, kinds: int, shares: int, **values: Any) -> None:
    """Add up the shares of each parameter's slope, `shares` of a channel and kernel, by `kinds` kinds."""
    sets = layer.p.mean.size // 2
    blocks = shares * layer.bound_shapes[0][0] * layer.kernels // sets
    wanted = {
        f"d{param}": layer.g[param] if name in layer.learn else None for name, param in layer.parts.items()
    }
    grid, block = (kinds * sets, 1, 1), (THREADS, 1, 1)
    layer.be.launch(layer, name, grid=grid, block=block, blocks=blocks, **wanted, **values)
