"""Pack the rows of an image that windows see, for ``gemm.py`` to multiply.

Source: as ``gemm.py``.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minet.loops import kernel
from minet.loops.simd.tile import BYTES, VECS, clear_lanes, copy_lanes

ROOM = 3 << 16  # elements of a panel, which stays in L2


class View(NamedTuple):
    """How windows see an image, and the blocks in which it is packed."""

    rows: np.ndarray  # (P, R): the input row that tap r of output row p sees; -1 in the padding
    columns: np.ndarray  # (Q, S), likewise
    W: int
    N: int
    band: int  # output rows in a block
    length: int  # elements (q, n) of an output row in a block
    channels: int  # of the image in a block
    tall: int  # most input rows that the output rows of a block see
    shared: bool  # whether taps are fixed distances apart in a row, so that one line serves them all
    lines: int  # of a packed row: 1, or one for each tap
    pitch: int  # elements from one line to the next
    begin: np.ndarray  # (S,): where tap s begins in a packed row
    far: int  # how much further on the last tap begins
    first: int  # the pixel at which the packed row of output column 0 begins
    plain: bool  # whether windows are single pixels in a row, so that x can be read in place


def reach(taps, dilation):
    """Return each tap's distance from the first; `dilation` may be these distances themselves."""
    return np.array(dilation) if isinstance(dilation, tuple) else np.arange(taps) * dilation


def inputs(size, windows, taps, stride, pad, dilation):
    """Return a table (windows, taps) of the row or column of x that a tap meets; -1 in the padding."""
    at = np.arange(windows)[:, None] * stride - pad + reach(taps, dilation)
    return np.where((at >= 0) & (at < size), at, -1)


def outputs(size, windows, taps, stride, pad, dilation):
    """Return a table (size, taps) of the window whose tap meets a row or column of x; -1 if none does."""
    at = np.arange(size)[:, None] + pad - reach(taps, dilation)
    window = at // stride
    return np.where((at % stride == 0) & (window >= 0) & (window < windows), window, -1)


@lru_cache(256)
def view(make, size, windows, geometry, N, C, itemsize, blocks):
    """Return the View of an image of C channels and `size` from `windows`, or the reverse.

    Parameters
    ----------
    make : inputs or outputs
    geometry : tuple
        Size, stride, pad and dilation of the window, each down and across.
    blocks : tuple
        The most taps, output rows, and elements of a row in a block.
    """
    rows, columns = (make(*sizes) for sizes in zip(size, windows, *geometry, strict=True))
    taps, band, length = blocks
    lanes = BYTES // itemsize
    wide = VECS * lanes
    length = min(length, len(columns) * N)
    pitch = -(-length // wide) * wide
    _, stride, pad, dilation = (numbers[1] for numbers in geometry)
    if stride == 1:
        shifts = (reach(columns.shape[1], dilation) - pad) * (1 if make is inputs else -1)
        first, lines = int(shifts.min()), 1
        begin = (shifts - first) * N
    else:
        first, lines, begin = 0, columns.shape[1], np.zeros(1, np.int64)
    far = int(begin.max())
    # An odd number of cache lines, or the lines of a panel would fall into few sets of the cache.
    pitch = (-(-(pitch + far) // lanes) | 1) * lanes
    if stride > 1:
        begin = np.arange(lines) * pitch
    plain = geometry == ((1, 1), (1, 1), (0, 0), geometry[3]) and size == windows
    tall = 1
    for p in range(0, len(rows), band):
        seen = rows[p : p + band]
        tall = max(tall, int(seen.max() - np.where(seen < 0, seen.max(), seen).min()) + 1)
    channels = max(1, min(C, taps // (rows.shape[1] * columns.shape[1]), ROOM // (tall * lines * pitch)))
    W = (size if make is inputs else windows)[1]
    return View(
        rows,
        columns,
        W,
        N,
        band,
        length,
        channels,
        tall,
        stride == 1,
        lines,
        pitch,
        begin,
        far,
        first,
        plain,
    )


@kernel
def copy(a, ai, b, bi, count):
    """``b[bi : bi + count] = a[ai : ...]``, or zeros if ai < 0."""
    lanes = BYTES // a.itemsize
    whole = count // lanes * lanes
    if ai < 0:
        for j in range(0, whole, lanes):
            clear_lanes(b, bi + j)
        for j in range(whole, count):
            b[bi + j] = 0
    else:
        for j in range(0, whole, lanes):
            copy_lanes(a, ai + j, b, bi + j)
        for j in range(whole, count):
            b[bi + j] = a[ai + j]


@kernel
def pack(x, xc, v, c0, c1, p0, p1, j0, count, panel):
    """Pack elements j0 .. j0+count-1 of the rows that output rows p0 .. p1-1 see of channels c0 .. c1-1.

    They come after a row of zeros, in whole strips. Returns the number of the first row.
    """
    low, high = np.int64(1 << 62), np.int64(-1)
    for p in range(p0, p1):
        for r in range(v.rows.shape[1]):
            if v.rows[p, r] >= 0:
                low, high = min(low, v.rows[p, r]), max(high, v.rows[p, r])
    size, wide = v.lines * v.pitch, VECS * BYTES // x.itemsize
    full = -(-count // wide) * wide + v.far
    first = v.first * v.N + j0
    before = min(full, max(0, -first))
    inside = max(before, min(full, v.W * v.N - first))
    for j in range(0, size, BYTES // x.itemsize):
        clear_lanes(panel, j)
    for c in range(c0, c1):
        for h in range(low, high + 1):
            start, to = c * xc + h * v.W * v.N, (1 + (c - c0) * v.tall + h - low) * size
            for s in range(v.lines):
                j = 0
                while j < full:
                    if v.shared:
                        at = start + first + j if before <= j < inside else np.int64(-1)
                        run = (before if j < before else inside if j < inside else full) - j
                    elif j < count:
                        q, n = (j0 + j) // v.N, (j0 + j) % v.N
                        at = start + v.columns[q, s] * v.N + n if v.columns[q, s] >= 0 else np.int64(-1)
                        run = min(v.N - n, count - j)
                    else:
                        at, run = np.int64(-1), full - j
                    copy(x, at, panel, to + s * v.pitch + j, run)
                    j += run
    return low


@kernel
def find(v, p, channels, low, at):
    """Find where in a panel of `channels` channels each tap begins to see its row, for output row p."""
    t = 0
    for c in range(channels):
        for r in range(v.rows.shape[1]):
            h = v.rows[p, r]
            to = (1 + c * v.tall + h - low) * v.lines * v.pitch if h >= 0 else 0
            for s in range(v.columns.shape[1]):
                at[t] = to + v.begin[s]
                t += 1


@kernel
def find_plain(v, p, c0, channels, xc, j0, at):
    """Find the same places in x itself."""
    for c in range(channels):
        at[c] = (c0 + c) * xc + p * v.W * v.N + j0
