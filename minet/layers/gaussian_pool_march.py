"""GaussianPool on a GPU by a march down the columns: its grids, and what all ways to compute it share.

The kernels are in ``kernels/gaussian_pool.cu``.
"""

from __future__ import annotations

import math
from typing import Any

from minet.core.layer import Array, Shape, State
from minet.core.window import Window, bands

THREADS = 256  # per block
HELD = 40 << 10  # most bytes of tables in a block's shared memory
AT_ONCE = 4  # kernels that a thread computes together; kernels/gaussian_pool.cuh has the same
SHARE = 16  # elements that a thread adds up to a share of a slope
MOST = 256  # shares of a kernel's slope on a channel
MOST_ROWS = 65535  # of blocks in a grid; kernels stride over the rest


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
