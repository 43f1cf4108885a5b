"""Matrix products, where one factor may be the windows of images: convolution without unrolling them.

    panels   out[i, (p, q, n)] <- beta*out + bias[i] + sum over t of a[i, t] * X[t, (p, q, n)]
    dots     out[i, t]         <- beta*out + sum over p, q, n of a[i, (p, q, n)] * X[t, (p, q, n)]
    where t is a tap (c, r, s) and X[t, (p, q, n)] = x[c, rows[p, r], columns[q, s], n], or 0 if they say -1

The tables tell which input a tap meets: they hold stride, pad and dilation, and turned round, from inputs to
outputs, make panels compute dx. Where columns[q, s] is q + shifts[s], a packed line serves all taps s. A
plain matrix is an image of one pixel seen through one tap.

Order: x is (C, H, W, N), out (M, P, Q, N) or (M, C, R, S) with rows om apart, a (M, t) or (M, (p, q, n)).
SIMD lanes run along (q, n), so that a small N fills them too.
Parallel: over blocks of out, each with one owner, so that no sum depends on the number of threads. A task
packs the input rows that it needs into a panel that stays in L2, once for all rows of out that see them, and
runs the tiles of ``tile.py`` over it.
Bytes: X is read once for GROUP rows of out, and (BAND - 1 + R) / BAND times for its rows.

Why not BLAS: NumPy's has no beta, wants the windows written out first, and its threads and Numba's keep the
cores from each other.
Source: as ``tile.py``; for convolution Chetlur et al., "cuDNN: efficient primitives for deep learning", 2014,
arXiv 1410.0759, section 3.
"""

import numpy as np
from numba import prange

from . import kernel, parallel_kernel, scratch
from .tile import (  # fmt: skip
    BYTES,
    ROWS,
    SIDE,
    VECS,
    add_lanes,
    add_outer,
    add_sums,
    clear_strip,
    copy_strip,
    merge_tile,
    put_tile,
    rows_tile,
    zero_tile,
)

GROUP = 64  # rows of out in a task
LENGTH = 512  # elements of a row of out in a task
BAND = 4  # rows of out in a task that share the lines of X
TAPS = 128  # panels: taps at a time; a strip of them and the rows of a that it meets stay in L1
ROOM = 3 << 16  # elements of a panel, which stays in L2
DOT_TAPS, DOT_LENGTH = 128, 512  # dots: taps, and elements of a row, at a time
TASKS = 32  # at least about so many, where there is work enough


@kernel
def put(out, at, value, beta):
    out[at] = value if beta == 0 else beta * out[at] + value


@kernel
def copy(a, ai, b, bi, count):
    """``b[bi : bi + count] = a[ai : ...]``, or zeros if ai < 0."""
    wide = VECS * BYTES // a.itemsize
    whole = count // wide * wide
    for j in range(0, whole, wide):
        if ai < 0:
            clear_strip(b, bi + j)
        else:
            copy_strip(a, ai + j, b, bi + j)
    for j in range(whole, count):
        b[bi + j] = a.dtype.type(0) if ai < 0 else a[ai + j]


@kernel
def extent(rows, p0, p1):
    """The first and the last input row that output rows p0 .. p1-1 see; if none, 0 and -1."""
    low, high = np.int64(1 << 62), np.int64(-1)
    for p in range(p0, p1):
        for r in range(rows.shape[1]):
            if rows[p, r] >= 0:
                low, high = min(low, rows[p, r]), max(high, rows[p, r])
    return (low, high) if high >= 0 else (np.int64(0), high)


@kernel
def layout(length, N, columns, shifts, itemsize):
    """How a panel holds an input row for `length` elements of an output row.

    Where each tap sees it `shifts[s]` pixels further on, one line serves all taps; else each has its own.
    Gives the lines of a row, their pitch, where in them each tap begins, and the first pixel of the line.
    """
    S, lanes = columns.shape[1], BYTES // itemsize
    wide = VECS * lanes
    begin, reach, lowest = np.empty(S, np.int64), np.int64(0), np.int64(0)
    if len(shifts):
        lowest = shifts.min()
        for s in range(S):
            begin[s] = (shifts[s] - lowest) * N
            reach = max(reach, begin[s])
    # An odd number of cache lines: else the lines of a panel would fall into few sets of the cache.
    pitch = (-(-(-(-length // wide) * wide + reach) // lanes) | 1) * lanes
    if not len(shifts):
        for s in range(S):
            begin[s] = s * pitch
    return (1 if len(shifts) else S), pitch, begin, lowest


@kernel
def pack(x, start, W, N, columns, shifts, lowest, j0, count, pitch, panel, to):
    """One input row, which begins at x[start], for elements j0 .. j0+count-1 of an output row."""
    if len(shifts):
        first, count = lowest * N + j0, pitch
        before = min(count, max(0, -first))
        inside = max(before, min(count, W * N - first))
        copy(x, -1, panel, to, before)
        copy(x, start + first + before, panel, to + before, inside - before)
        copy(x, -1, panel, to + inside, count - inside)
        return
    for s in range(columns.shape[1]):
        j = 0
        while j < count:
            q, n = (j0 + j) // N, (j0 + j) % N
            run = min(N - n, count - j)
            copy(
                x, start + columns[q, s] * N + n if columns[q, s] >= 0 else -1, panel, to + s * pitch + j, run
            )
            j += run
        copy(x, -1, panel, to + s * pitch + count, pitch - count)


@parallel_kernel
def panels(a, am, at, bias, x, xc, W, N, rows, columns, shifts, out, om, M, C, beta):
    (P, R), (Q, S) = rows.shape, columns.shape
    wide, length = VECS * BYTES // a.itemsize, min(LENGTH, Q * N)
    down, across = -(-M // GROUP), -(-Q * N // LENGTH)
    band = max(1, min(BAND, P * down * across // TASKS))
    each, pitch, begin, lowest = layout(length, N, columns, shifts, a.itemsize)
    for task in prange(down * -(-P // band) * across):
        i0, j0 = task // (-(-P // band) * across) * GROUP, task % across * LENGTH
        p0 = task // across % -(-P // band) * band
        p1, count = min(p0 + band, P), min(LENGTH, Q * N - j0)
        low, high = extent(rows, p0, p1)
        lines = (high - low + 1) * each
        channels = max(1, min(C, TAPS // (R * S), ROOM // (lines * pitch + 1)))
        nothing = channels * lines * pitch  # where the lines of zeros are, for rows in the padding
        panel, edge = scratch(nothing + each * pitch, a), scratch(ROWS * wide, a)
        copy(x, -1, panel, nothing, each * pitch)
        for c0 in range(0, C, channels):
            c1 = min(c0 + channels, C)
            for c in range(c0, c1):
                for h in range(low, high + 1):
                    to = ((c - c0) * lines + (h - low) * each) * pitch
                    pack(x, c * xc + h * W * N, W, N, columns, shifts, lowest, j0, count, pitch, panel, to)
            keep = beta if c0 == 0 else a.dtype.type(1)
            for p in range(p0, p1):
                for j in range(0, count, wide):
                    for i in range(i0, min(i0 + GROUP, M), ROWS):
                        last = min(ROWS, M - i) - 1
                        tile = rows_tile(bias, i, last) if c0 == 0 else zero_tile(a)
                        ai = i * am + c0 * R * S * at
                        for c in range(c1 - c0):
                            for r in range(R):
                                h = rows[p, r]
                                line = (c * lines + (h - low) * each) * pitch if h >= 0 else nothing
                                for s in range(S):
                                    tile = add_outer(tile, a, ai, am, last, panel, line + begin[s] + j)
                                    ai += at
                        to = i * om + p * Q * N + j0 + j
                        if last < ROWS - 1 or j + wide > count:
                            put_tile(tile, edge, 0, wide)
                            for k in range(last + 1):
                                for n in range(min(wide, count - j)):
                                    put(out, to + k * om + n, edge[k * wide + n], keep)
                        elif keep == 0:
                            put_tile(tile, out, to, om)
                        else:
                            merge_tile(tile, keep, out, to, om)


@parallel_kernel
def dots(a, am, x, xc, W, N, rows, columns, shifts, out, om, M, C, beta):
    (P, R), (Q, S) = rows.shape, columns.shape
    lanes, length = BYTES // a.itemsize, min(DOT_LENGTH, Q * N)
    each, pitch, begin, lowest = layout(length, N, columns, shifts, a.itemsize)
    band = min(BAND, P)
    channels = max(1, min(C, DOT_TAPS // (R * S)))
    down, across, along = -(-M // GROUP), -(-C // channels), -(-Q * N // DOT_LENGTH)
    chunks = -(-P // band) * along
    # A small out has too few blocks for many cores: its sums are computed in shares, then added in order.
    shares = min(chunks, max(1, TASKS // (down * across)))
    partial = np.empty((shares, M, C * R * S) if shares > 1 else (0, 0, 0), a.dtype)
    for task in prange(shares * down * across):
        share, i0, c0 = task // (down * across), task // across % down * GROUP, task % across * channels
        i1, c1 = min(i0 + GROUP, M), min(c0 + channels, C)
        taps, tiles = (c1 - c0) * R * S, -(-(c1 - c0) * R * S // SIDE)
        totals = np.zeros(-(-(i1 - i0) // SIDE) * tiles * SIDE * SIDE, a.dtype)
        panel = scratch(0, a)
        for chunk in range(chunks * share // shares, chunks * (share + 1) // shares):
            p0, j0 = chunk // along * band, chunk % along * DOT_LENGTH
            p1, count = min(p0 + band, P), min(DOT_LENGTH, Q * N - j0)
            low, high = extent(rows, p0, p1)
            lines = (high - low + 1) * each
            nothing = (c1 - c0) * lines * pitch
            if len(panel) < nothing + each * pitch:
                panel = scratch(nothing + each * pitch, a)
            copy(x, -1, panel, nothing, each * pitch)
            for c in range(c0, c1):
                for h in range(low, high + 1):
                    to = ((c - c0) * lines + (h - low) * each) * pitch
                    pack(x, c * xc + h * W * N, W, N, columns, shifts, lowest, j0, count, pitch, panel, to)
            whole = count // lanes * lanes
            where = np.empty(SIDE, np.int64)
            for i in range(i0, i1, SIDE):  # rows of a stay in L1 for all taps
                for t in range(0, taps, SIDE):
                    last, to = min(SIDE, i1 - i) - 1, ((i - i0) // SIDE * tiles + t // SIDE) * SIDE * SIDE
                    tile = zero_tile(a)
                    for p in range(p0, p1):
                        for k in range(SIDE):
                            tap = min(t + k, taps - 1)
                            h = rows[p, tap // S % R]
                            line = (tap // (R * S) * lines + (h - low) * each) * pitch if h >= 0 else nothing
                            where[k] = line + begin[tap % S]
                        ai = i * am + p * Q * N + j0
                        for j in range(0, whole, lanes):
                            tile = add_lanes(tile, a, ai + j, am, last, panel, where, j)
                        for j in range(whole, count):
                            for k in range(last + 1):
                                for tap in range(SIDE):
                                    term = a[ai + k * am + j] * panel[where[tap] + j]
                                    totals[to + k * SIDE + tap] += term
                    add_sums(tile, totals, to)
        for i in range(i0, i1):
            for t in range(taps):
                to = ((i - i0) // SIDE * tiles + t // SIDE) * SIDE * SIDE + (i - i0) % SIDE * SIDE + t % SIDE
                if shares > 1:
                    partial[share, i, c0 * R * S + t] = totals[to]
                else:
                    put(out, i * om + c0 * R * S + t, totals[to], beta)
    for i in prange(M if shares > 1 else 0):
        for t in range(C * R * S):
            total = partial[0, i, t]
            for share in range(1, shares):
                total += partial[share, i, t]
            put(out, i * om + t, total, beta)


@parallel_kernel
def sums(a, am, out, M, T, beta):
    """``out[i] <- beta*out[i] + sum over t of a[i, t]``, in parts: one long sum would lose digits."""
    for i in prange(M):
        total = 0.0
        for t0 in range(0, T, DOT_LENGTH):
            part = a.dtype.type(0)
            for t in range(t0, min(t0 + DOT_LENGTH, T)):
                part += a[i * am + t]
            total += part
        put(out, i, total, beta)


ONE_TAP, NO_SHIFT = np.zeros((1, 1), np.int64), np.zeros(1, np.int64)


def flat(matrix):
    """The memory of a matrix from its first to its last element, and its strides in elements.

    One-dimensional arrays are of one type, so that a kernel compiles but once for each dtype.
    """
    strides = [stride // matrix.itemsize for stride in matrix.strides]
    span = 1 + sum((size - 1) * stride for size, stride in zip(matrix.shape, strides, strict=True))
    return np.lib.stride_tricks.as_strided(matrix, (span,), (matrix.itemsize,)), *strides


def gemm(a, b, out, alpha, beta, trans):
    """``out <- beta*out + alpha * op(a) @ op(b)`` on matrices whose rows may be a stride apart."""
    a = a.T if trans[0] == "t" else a
    a = a if alpha == 1 else a * a.dtype.type(alpha)
    beta = out.dtype.type(beta)
    to, om, _ = flat(out)
    if trans[1] == "n" and b.shape[1] == 1 and b.flags.c_contiguous and a.strides[1] == a.itemsize:
        b, trans = b.reshape(1, -1), "nt"  # one column: rows of a times a row
    fb, bm, _ = flat(b)
    if trans[1] == "n":
        fa, am, at = flat(a)
        bias = np.zeros(len(a), a.dtype)
        taps = ONE_TAP, ONE_TAP, NO_SHIFT
        panels(fa, am, at, bias, fb, bm, 1, b.shape[1], *taps, to, om, len(a), len(b), beta)
    else:
        fa, am, _ = flat(np.ascontiguousarray(a))
        dots(fa, am, fb, bm, 1, b.shape[1], ONE_TAP, ONE_TAP, NO_SHIFT, to, om, len(a), len(b), beta)


def sum_rows(a, out, beta):
    fa, am, _ = flat(a)
    sums(fa, am, out, *a.shape, out.dtype.type(beta))
