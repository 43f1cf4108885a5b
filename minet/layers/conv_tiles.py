"""The tiles in which Conv computes its products on a GPU, and how the sums of dw are shared out."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from minet.core.window import Window

MULTIPROCESSORS = 132  # of an H100; the same on any card, as the order of sums depends on it
LEAST, MOST, STEP = 64, 2048, 16  # positions in a share of dw; longer sums would lose float32's digits
PIECE, MOST_PIECES = 4096, 256  # terms in a piece of db, and pieces


class Tile(NamedTuple):
    """What a block of a product on a GPU computes; `kernels/conv_tile.cuh` explains the numbers."""

    BM: int
    BN: int
    TM: int = 8
    TN: int = 8
    BK: int = 16
    STAGES: int = 2
    GROUPS: int = 1
    RESIDENT: int = 2
    FLAT: int = 0
    TF32: int = 0

    @property
    def threads(self) -> int:
        return 32 * self.GROUPS * (self.BM // (4 * self.TM)) * (self.BN // (8 * self.TN))

    def on(self, be: Any) -> Tile:
        """The tile there; with ``tf32=True`` on tensor cores, which take 8 terms at once."""
        if not be.tf32:
            return self
        TM = 16 if (self.BM, self.BN) == (128, 128) else self.TM  # larger parts for a warp, fewer reads
        return self._replace(TM=TM, TF32=1, GROUPS=min(self.GROUPS, self.BK // 8))


IMAGE_TILES = {  # of y and dx
    "large": Tile(128, 128),  # the most products for each number that is read
    "half": Tile(64, 128, STAGES=3, RESIDENT=4),  # no more than 64 maps
    "deep": Tile(32, 64, STAGES=3, GROUPS=4, RESIDENT=4),  # few blocks: their warps share the terms
    "thin": Tile(16, 64, TM=4, STAGES=3, GROUPS=4, RESIDENT=6),  # few maps, as dx of colours has
}
WEIGHT_TILES = {  # of dw, by maps K and C; the columns of a flat tile are all (c, r, s), not the c of one tap
    "96x96": Tile(96, 96, TM=12, TN=6),
    "64x128": Tile(64, 128, RESIDENT=3),  # 128x128 was slower, or had too few registers
    "128x64": Tile(128, 64, RESIDENT=3),
    "64x64": Tile(64, 64, RESIDENT=4),
    "flat": Tile(64, 80, TN=10, GROUPS=2, FLAT=1),  # 5x5 of three colours
    "flat few": Tile(64, 40, TN=5, GROUPS=2, FLAT=1),  # 3x3 of three
}


def image_tile(maps: int, positions: int) -> str:
    """The tile for y or dx of so many maps and positions, which are height x width x N."""
    if maps <= 16:
        return "thin"
    name = "large" if maps > 64 else "half"
    blocks = -(-maps // IMAGE_TILES[name].BM) * -(-positions // IMAGE_TILES[name].BN)
    return name if blocks >= MULTIPROCESSORS else "deep"


def weight_tile(K: int, C: int, taps: int) -> str:
    """The tile for dw."""
    if C <= 32:
        return "flat" if C * taps > 40 else "flat few"
    if 64 < K <= 96 and 64 < C <= 96:
        return "96x96"
    return "64x128" if C > 64 else "128x64" if K > 64 else "64x64"


@cache
def shared_out(
    window: Window, size: tuple[int, int], outputs: tuple[int, int], N: int, flat: bool, wanted: int
) -> tuple[int, int]:
    """The positions in each share of dw, and how many shares that makes.

    That is `wanted` or less, unless there are more taps, or shares would be longer than MOST.
    """

    def met(axis: int) -> list[int]:
        """For each tap along an axis, how many outputs have it in the image."""
        taps, stride, pad, step = (numbers[axis] for numbers in window)
        places = range(-pad, outputs[axis] * stride - pad, stride)
        return [sum(0 <= place + r * step < size[axis] for place in places) for r in range(taps)]

    lengths = [down * across * N for down in met(0) for across in met(1)]
    if flat:
        lengths = [outputs[0] * outputs[1] * N]
    share, most = up(max(LEAST, min(MOST, -(-sum(lengths) // wanted))), STEP), max(wanted, len(lengths))
    while (count := sum(-(-length // share) for length in lengths)) > most and share < MOST:
        share += STEP
    return share, count


def summing(size: int, lists: int, count: int, maps: int, threads: int) -> int:
    """How many blocks add up the shares of dw, as in conv_shares.cuh, and the pieces of `maps` db.

    Parameters
    ----------
    size, lists : int
        Elements of dw that have the same shares, and how many sets of shares there are.
    count : int
        All shares at hand.
    """
    across = 32 if count > 32 * lists else threads
    return lists * -(-size // across) + -(-maps // threads)


def pieces(positions: int) -> int:
    """Into how many pieces the sum of db over so many positions is cut."""
    return max(1, min(MOST_PIECES, positions // PIECE))


def up(value: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-value // step) * step
