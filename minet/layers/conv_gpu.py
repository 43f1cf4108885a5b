"""Conv on a GPU: which kernels compute it, and in which blocks."""

from __future__ import annotations

from typing import Any

from minet.core.layer import Array, Shape, State
from minet.layers import conv_tiles as tiles
from minet.layers.conv_tiles import Tile, up

FILLING = 8 * tiles.MULTIPROCESSORS  # blocks of dw that is summed directly
PIXELS = 64  # times N, the most positions in a share of its sums
TURNED = 16  # weights that a thread turns
NOTHING_LEFT = dict.fromkeys(("part", "dw", "db_part", "db")) | dict.fromkeys(
    ("flat", "share", "z0", "z1", "pieces"), 0
)


class Products:
    """Products of matrices that read the images where they lie: two launches in each direction.

    fprop turns the weights and multiplies; bprop adds up shares of the gradients, and multiplies for dx while
    other blocks add up the shares.
    """

    def __init__(self, layer: Any) -> None:
        self.layer, self.be, self.window, self.groups = layer, layer.be, layer.window, layer.groups
        self.taps = self.window.size[0] * self.window.size[1]
        (C, *_), (K, *_) = layer.bound_shapes
        self.C, self.K = C // self.groups, K // self.groups  # of a group
        self.tile, (self.down, self.across), self.shares = self._weight_tile()

    def _weight_tile(self) -> tuple[Tile, tuple[int, int], int]:
        """The tile for dw; how many there are, along K and along C or (C, R, S); shares that fill a GPU."""
        tile = tiles.WEIGHT_TILES[tiles.weight_tile(self.K, self.C, self.taps)].on(self.be)
        columns = self.C * self.taps if tile.FLAT else self.C
        down, across = -(-self.K // tile.BM) * self.groups, -(-columns // tile.BN)
        return tile, (down, across), max(1, tile.RESIDENT * tiles.MULTIPROCESSORS // (down * across))

    @property
    def together(self) -> int:
        """Elements of dw that have the same shares: all, or those of a tap."""
        return self.K * self.C * self.groups * (self.taps if self.tile.FLAT else 1)

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        C, K = in_shape[0], out_shape[0]
        return {
            "wt": scratch(self.taps * max(C * up(self.K, 4), K * up(self.C, 4))),
            "parts": scratch(self.together * max(self.shares, 1 if self.tile.FLAT else self.taps)),
            "db_parts": scratch(K * tiles.MOST_PIECES),
        }

    def fprop(self, x: Array, y: Array, beta: float) -> None:
        axes = [(s, -p, d, 1) for s, p, d in zip(*self.window[1:], strict=True)]
        turn = (self.taps, self.C * self.taps)
        x, y = self.layer.seen(x, y)
        self._gather(x, y, axes, beta, self.layer.p.get("b"), turn)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        x, dy = self.layer.seen(x, dy)
        left = self._weights(x, dy, turning=dx is not None)
        if dx is not None:
            axes = [(1, p, -d, s) for s, p, d in zip(*self.window[1:], strict=True)]
            self._gather(dy, self.layer.seen(dx)[0], axes, beta, **left)

    def _gather(
        self, x: Array, y: Array, axes: list[tuple[int, int, int, int]], beta: float,
        bias: Array | None = None, turn: tuple[int, int] | None = None, **left: Any,
    ) -> None:  # fmt: skip
        """``y <- beta*y + bias + the product of w, turned, and the windows of x``; of dx the same, from dy.

        Parameters
        ----------
        axes : two of (stride, start, step, spread)
            At tap r output a has the input ``(a*stride + start + r*step) / spread``, where that is whole.
        turn : (int, int), optional
            From one map of x, and of y, to the next in w, if it is still to be turned.
        **left
            With dx, what `_weights` has left to add.
        """
        (C, H, W, N), (M, P, Q, _), G = x.shape, y.shape, self.groups
        C, M = C // G, M // G
        R, S = self.window.size
        tile = tiles.IMAGE_TILES[tiles.image_tile(M, P * Q * N * G)].on(self.be)
        constants = tile._replace(FLAT=int(C < tile.BK))._asdict() | self._grouped()
        names = (f"{name}_{axis}" for axis in "yx" for name in ("stride", "start", "step", "spread"))
        values = dict(zip(names, (*axes[0], *axes[1]), strict=True)) | (left or NOTHING_LEFT) | {
            "C": C, "H": H, "W": W, "M": M, "P": P, "Q": Q, "N": N, "R": R, "S": S,
            "x": x, "y": y, "bias": bias, "beta": beta,
        }  # fmt: skip
        if turn:
            steps = {"taps": R * S, "groups": G, "step_c": turn[0], "step_m": turn[1]}
            size = R * S * up(M, 4) * C * G
            self.be.launch(self.layer, "conv_turn", size, constants=constants, **values, **steps)
        blocks = -(-M // tile.BM) * -(-(P * Q * N) // tile.BN)
        if left:
            blocks += -(-self._summing(left, tile) // G)
        self._launch("conv_gather", (blocks, G, 1), tile, constants, values)

    def _weights(self, x: Array, dy: Array, turning: bool) -> dict[str, Any]:
        """Add up shares of the gradients of w and b; turn w and return what is left to add, or add it too."""
        (_, H, W, N), (K, P, Q, _), layer, tile = x.shape, dy.shape, self.layer, self.tile
        share, count = tiles.shared_out(self.window, (H, W), (P, Q), N, bool(tile.FLAT), self.shares)
        pieces, constants = tiles.pieces(P * Q * N) if layer.bias else 0, tile._asdict() | self._grouped()
        rest = K * pieces + (-(-layer.s.wt.size // (TURNED * tile.threads)) if turning else 0)
        left = {
            "part": layer.s.parts, "dw": layer.g.w, "db_part": layer.s.db_parts, "db": layer.g.get("b"),
            "flat": tile.FLAT, "share": share, "pieces": pieces,
        }  # fmt: skip
        values = self.window.constants() | left | {
            "C": self.C, "H": H, "W": W, "K": self.K, "P": P, "Q": Q, "groups": self.groups,
            "x": x, "dy": dy, "wt": layer.s.wt if turning else None,
        }  # fmt: skip
        room = layer.s.parts.size // self.together
        for z0 in range(0, count, room):
            z1, behind = min(z0 + room, count), 0 if z0 else -(-rest // (self.down * self.across))
            values |= {"z0": z0, "z1": z1}
            self._launch("conv_dw", (self.across, self.down, z1 - z0 + behind), tile, constants, values)
            left |= {"z0": z0, "z1": z1, "pieces": pieces if z1 == count else 0}
            if z1 < count or not turning:
                grid = (self._summing(left, tile), 1, 1)
                self._launch("conv_dw_sum", grid, tile, constants, values | left)
        return left

    def _summing(self, left: dict[str, Any], tile: Tile) -> int:
        """The blocks that add what `_weights` has left."""
        count, maps = left["z1"] - left["z0"], self.layer.maps if left["pieces"] else 0
        return tiles.summing(self.together, self.layer.g.w.size // self.together, count, maps, tile.threads)

    def _launch(
        self, name: str, grid: Shape, tile: Tile, constants: dict[str, Any], values: dict[str, Any]
    ) -> None:
        block = (tile.threads, 1, 1)
        self.be.launch(self.layer, name, grid=grid, block=block, constants=constants, **values)

    def _grouped(self) -> dict[str, int]:
        return {"GROUPED": 1} if self.groups > 1 else {}  # kernels without groups need no registers for them


class Direct:
    """Sums tap by tap, for groups of few maps."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.be = layer, layer.be
        (C, *_), (K, *_) = layer.bound_shapes
        self.sizes = {"CG": C // layer.groups, "KG": K // layer.groups}  # maps of a group of x, and of y

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        R, S = self.layer.window.size
        return {"parts": scratch(out_shape[0] * self.sizes["CG"] * R * S * self._pixels(out_shape)[1])}

    def _pixels(self, out_shape: Shape) -> tuple[int, int]:
        """The pixels of a share of dw, and how many shares there are."""
        K, P, Q = out_shape[:3]
        rows = K * self.sizes["CG"] * self.layer.window.size[0]
        wanted = max(-(-FILLING // rows), -(-P * Q // PIXELS))
        share = -(-P * Q // wanted)
        return share, -(-P * Q // share)

    def fprop(self, x: Array, y: Array, beta: float) -> None:
        self._launch("fprop", y, x=x, y=y, bias=self.layer.p.get("b"), beta=beta)

    def bprop(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        layer = self.layer
        if dx is not None:
            self._launch("dx", dx, dy=dy, dx=dx, beta=beta)
        share, count = self._pixels(dy.shape)
        parts = layer.s.parts.reshape(-1, count)
        rows = len(parts) // layer.window.size[1]
        values = {"x": x, "dy": dy, "part": parts, "share": share} | self.sizes
        self.be.launch(
            layer, "conv_depthwise_dw", grid=(count, min(rows, 1 << 15), 1), block=(256, 1, 1),
            constants=layer.window.constants(), **values,
        )  # fmt: skip
        self.be.sum_rows(parts, layer.g.w.reshape(-1), beta=1.0)
        if layer.bias:
            self.be.sum_rows(dy.reshape(layer.maps, -1), layer.g.b, beta=1.0)

    def _launch(self, phase: str, out: Array, **values: Any) -> None:
        """Launch a kernel with a thread for each element of `out`, which sums it tap by tap."""
        (maps, height, width, N), name = out.shape, f"conv_depthwise_{phase}"
        constants, values = self.layer.window.constants(), values | self.sizes
        self.be.launch(self.layer, name, width * N, maps * height, constants=constants, **values)


def scratch(size: int) -> State:
    """Numbers for the time of a call."""
    return State((size,), per_sample=False, scratch=True)
