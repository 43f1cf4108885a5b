"""Matrix products in which one factor may be the windows of images: convolution without unrolling.

    panels   out[i, (p, q, n)] <- beta*out + bias[i] + sum over t of a[i, t] * X[t, (p, q, n)]
    dots     out[i, t]         <- beta*out + sum over p, q, n of a[i, (p, q, n)] * X[t, (p, q, n)]
    where t is a tap (c, r, s) and X[t, (p, q, n)] = x[c, rows[p, r], columns[q, s], n], or 0 if one is -1

The tables hold the input that each tap meets. They encode stride, pad and dilation; reversed, from inputs to
outputs, they make `panels` compute dx. If columns[q, s] is q + shifts[s], one packed line serves all taps s.
A plain matrix is an image of one pixel seen through one tap.

Order: x is (C, H, W, N), out (M, P, Q, N) or (M, C, R, S) with rows om apart, a (M, t) or (M, (p, q, n)).
SIMD lanes run along (q, n) in panels, so that a small N fills them too, and along i in dots, where a block of
a is transposed first.
Parallel: over blocks of out, each with one owner, so that no sum depends on the number of threads. A worker
packs the input rows that a block needs into a panel that stays in L2, once for all rows of out that see them,
and runs the tiles of ``simd/tile.py`` over it. Incomplete sums stay in L2 too.
Bytes: X is read once for GROUP rows of out, and (BAND - 1 + R) / BAND times for its rows; out is written
once.

Why not BLAS: NumPy's has no beta, needs the windows written out first, and its threads compete with Numba's
for the cores.
Source: as ``simd/tile.py``; for convolution Chetlur et al., "cuDNN: efficient primitives for deep learning",
2014, arXiv 1410.0759, section 3.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, workspace
from minet.loops.arithmetic import flat, put
from minet.loops.conv.pack import find, find_plain, inputs, pack, view
from minet.loops.simd.lanes import address
from minet.loops.simd.sums import sum_products
from minet.loops.simd.tile import (
    BYTES,
    ROWS,
    VECS,
    add_outer,
    get_tile,
    merge_tile,
    plus_tile,
    put_tile,
    rows_tile,
    take,
    turn,
    zero_tile,
)  # fmt: skip

GROUP = 64  # rows of out in a task
LENGTH = 512  # elements of a row of out in a task
BAND = 4  # rows of out in a task that share the lines of X
TAPS = 128  # panels: taps at a time; a strip of them and the matching rows of a stay in L1
DOT_TAPS = 256  # dots: taps in a task
TURN = 256  # elements of rows of a that are transposed at a time, and stay in L1
LONGEST = 8192  # taps in a sum of which parts are added one after another
TASKS = 32  # roughly the least number, if there is enough work


@kernel
def work_panels(counter, room, a, am, at, bias, x, xc, v, out, om, M, C, beta, down):
    """Do one worker's part of `panels`."""
    (P, R), (Q, S) = v.rows.shape, v.columns.shape
    wide = VECS * BYTES // a.itemsize
    high, across = -(-P // v.band), -(-Q * v.N // v.length)
    tasks, group = down * high * across, -(-M // (down * ROWS)) * ROWS
    edge, sums = room[: ROWS * wide], room[ROWS * wide :]
    panel = sums[v.band * -(-v.length // wide) * GROUP * wide if v.channels < C else 0 :]
    where, seen = np.empty(ROWS, np.int64), np.empty(v.channels * R * S, np.int64)
    task = take(counter)
    while task < tasks:
        i0 = task // (high * across) * group
        p0, j0 = task // across % high * v.band, task % across * v.length
        i1, p1, count = min(i0 + group, M), min(p0 + v.band, P), min(v.length, Q * v.N - j0)
        for c0 in range(0, C, v.channels):
            c1, mine = min(c0 + v.channels, C), 0
            low = pack(x, xc, v, c0, c1, p0, p1, j0, count, panel)
            taps = (c1 - c0) * R * S
            for p in range(p0, p1):
                find(v, p, c1 - c0, low, seen)
                for j in range(0, count, wide):
                    for i in range(i0, i1, ROWS):
                        last = min(ROWS, i1 - i) - 1
                        for k in range(ROWS):
                            where[k] = (i + min(k, last)) * am
                        # From 0 for each block of channels: a sum over all taps would lose digits.
                        tile = rows_tile(bias, i, last) if c0 == 0 else zero_tile(a)
                        ai = c0 * R * S * at
                        for t in range(taps):
                            tile = add_outer(tile, a, where, ai + t * at, panel, seen[t] + j)
                        if c0 > 0:
                            tile = plus_tile(tile, get_tile(sums, mine))
                        to = i * om + p * Q * v.N + j0 + j
                        if c1 < C:
                            put_tile(tile, sums, mine, wide)
                        elif last < ROWS - 1 or j + wide > count:
                            put_tile(tile, edge, 0, wide)
                            for k in range(last + 1):
                                for n in range(min(wide, count - j)):
                                    put(out, to + k * om + n, edge[k * wide + n], beta)
                        elif beta == 0:
                            put_tile(tile, out, to, om)
                        else:
                            merge_tile(tile, beta, out, to, om)
                        mine += ROWS * wide
        task = take(counter)


@parallel_kernel
def panels(a, am, at, bias, x, xc, v, out, om, M, C, beta, down, work, workers):
    counter = np.zeros(1, np.int64)  # of tasks taken: a free worker takes the next
    for worker in prange(workers):
        work_panels(counter, work[worker], a, am, at, bias, x, xc, v, out, om, M, C, beta, down)


@kernel
def turn_rows(a, ai, am, last, count, turned):
    """Set ``turned[j*wide + k] = a[ai + k*am + j]`` for `count` j and k up to `last`."""
    lanes = BYTES // a.itemsize
    wide, whole = VECS * lanes, count // lanes * lanes
    for v in range(0, wide, lanes):
        for j in range(0, whole, lanes):
            turn(a, ai + min(v, last) * am + j, am, max(0, last - v), turned, j * wide + v)
    for j in range(whole, count):
        for k in range(last + 1):
            turned[j * wide + k] = a[ai + k * am + j]


@kernel
def work_dots(counter, room, partial, a, am, x, xc, v, out, om, M, C, beta):
    """Do one worker's part of `dots`."""
    (P, R), (Q, S) = v.rows.shape, v.columns.shape
    wide, dtype, shares = VECS * BYTES // a.itemsize, a.dtype.type, len(partial)
    down, across, along = -(-M // GROUP), -(-C // v.channels), -(-Q * v.N // v.length)
    chunks, tiles = -(-P // v.band) * along, -(-v.channels * R * S // ROWS)
    tasks = shares * down * across
    totals, rest = room[: GROUP * tiles * ROWS], room[GROUP * tiles * ROWS :]
    turned, panel = rest[: TURN * wide], x if v.plain else rest[TURN * wide :]
    where, seen = np.empty(ROWS, np.int64), np.empty((v.band, v.channels * R * S), np.int64)
    task = take(counter)
    while task < tasks:
        share, i0 = task // (down * across), task // across % down * GROUP
        c0 = task % across * v.channels
        i1, c1 = min(i0 + GROUP, M), min(c0 + v.channels, C)
        taps = (c1 - c0) * R * S
        totals[:] = dtype(0)
        for chunk in range(chunks * share // shares, chunks * (share + 1) // shares):
            p0, j0 = chunk // along * v.band, chunk % along * v.length
            p1, count = min(p0 + v.band, P), min(v.length, Q * v.N - j0)
            low = np.int64(0) if v.plain else pack(x, xc, v, c0, c1, p0, p1, j0, count, panel)
            for p in range(p0, p1):
                if v.plain:
                    find_plain(v, p, c0, c1 - c0, xc, j0, seen[p - p0])
                else:
                    find(v, p, c1 - c0, low, seen[p - p0])
            for i in range(i0, i1, wide):
                to = (i - i0) // wide * tiles * ROWS
                for p in range(p0, p1):
                    for j1 in range(0, count, TURN):
                        some = min(TURN, count - j1)
                        ai = i * am + p * Q * v.N + j0 + j1
                        turn_rows(a, ai, am, min(wide, i1 - i) - 1, some, turned)
                        for t in range(0, taps, ROWS):
                            for k in range(ROWS):
                                where[k] = seen[p - p0, min(t + k, taps - 1)] + j1
                            tile = zero_tile(a)
                            for j in range(some):
                                tile = add_outer(tile, panel, where, j, turned, j * wide)
                            merge_tile(tile, dtype(1), totals, (to + t) * wide, wide)
        for i in range(i0, i1):
            column = (i - i0) // wide * tiles * ROWS * wide + (i - i0) % wide
            for t in range(taps):
                if shares > 1:
                    partial[share, i, c0 * R * S + t] = totals[column + t * wide]
                else:
                    put(out, i * om + c0 * R * S + t, totals[column + t * wide], beta)
        task = take(counter)


@parallel_kernel
def dots(a, am, x, xc, v, out, om, M, C, beta, partial, work, workers):
    shares, _, T = partial.shape
    counter = np.zeros(1, np.int64)
    for worker in prange(workers):
        work_dots(counter, work[worker], partial, a, am, x, xc, v, out, om, M, C, beta)
    for i in prange(M if shares > 1 else 0):
        for t in range(T):
            total = partial[0, i, t]
            for share in range(1, shares):
                total += partial[share, i, t]
            put(out, i * om + t, total, beta)


@parallel_kernel
def rows_dot(a, am, b, out, om, M, T, beta):
    """Compute ``out[i*om] <- beta*out[i*om] + sum over t of a[i, t] * b[t]``."""
    for i in prange(M):
        total = sum_products(address(a, i * am), address(b, 0), T)
        put(out, i * om, out.dtype.type(total), beta)


def multiply_panels(a, am, at, bias, x, see, out, om, M, C, beta):
    """Run `panels` for an image ``x = (memory, elements of a channel)``, seen by ``view(*see, ...)``."""
    # A sum over very many taps loses digits: in pieces, it is a sum of few sums of few.
    (R, S), (memory, pitch) = see[3][0], x
    piece = max(1, LONGEST // (R * S))
    if piece < C:
        for c in range(0, C, piece):
            part = (
                a[c * R * S * at :],
                am,
                at,
                bias if c == 0 else np.zeros_like(bias),
                (memory[c * pitch :], pitch),
            )
            multiply_panels(*part, see, out, om, M, min(piece, C - c), beta if c == 0 else out.dtype.type(1))
        return
    make, size, windows, _, N = see
    wide, (P, Q) = VECS * BYTES // out.itemsize, windows if make is inputs else size
    # With a small out, smaller tasks, so that every worker has some.
    share = -(-M // GROUP) * P * Q * N // TASKS
    band, length = max(1, min(BAND, share // LENGTH)), max(2 * wide, min(LENGTH, share // wide * wide))
    v = view(*see, C, out.itemsize, (TAPS, band, length))
    # With a very small one, also groups of fewer rows, although each packs for itself.
    blocks = -(-P // v.band) * -(-Q * N // v.length)
    down = max(-(-M // GROUP), min(-(-4 // blocks), M // (2 * ROWS)))
    room = ROWS * wide + GROUP * band * (length + wide) + (1 + v.channels * v.tall) * v.lines * v.pitch
    panels(a, am, at, bias, *x, v, out, om, M, C, beta, down, *workspace(room, out.dtype)[1:])


def multiply_dots(a, am, x, see, out, om, M, C, beta):
    v = view(*see, C, out.itemsize, (DOT_TAPS, BAND, LENGTH))
    wide = VECS * BYTES // out.itemsize
    taps = v.channels * v.rows.shape[1] * v.columns.shape[1] + ROWS
    room = (GROUP + wide) * taps + TURN * wide + (1 + v.channels * v.tall) * v.lines * v.pitch
    # A small out has too few blocks for many cores, so its sums are computed in shares, then added in order.
    blocks = -(-M // GROUP) * -(-C // v.channels)
    chunks = -(-len(v.rows) // v.band) * -(-len(v.columns) * v.N // v.length)
    shares = min(chunks, max(1, TASKS // blocks))
    partial = shares, M if shares > 1 else 0, C * v.rows.shape[1] * v.columns.shape[1]
    dots(a, am, *x, v, out, om, M, C, beta, *workspace(room, out.dtype, partial))


PIXEL = (
    inputs,
    (1, 1),
    (1, 1),
    ((1, 1), (1, 1), (0, 0), (1, 1)),
)  # a matrix, seen as an image of one pixel


def gemm(a, b, out, alpha, beta, trans):
    """Compute ``out <- beta*out + alpha * op(a) @ op(b)`` on matrices whose rows may be a stride apart."""
    a = a.T if trans[0] == "t" else a
    a = a if alpha == 1 else a * a.dtype.type(alpha)
    beta = out.dtype.type(beta)
    to, om, _ = flat(out)
    fb, bm, _ = flat(b)
    see = *PIXEL, b.shape[1]
    if trans[1] == "t":
        fa, am, _ = flat(np.ascontiguousarray(a))
        multiply_dots(fa, am, (fb, bm), see, to, om, len(a), len(b), beta)
        return
    fa, am, at = flat(a)
    if b.shape[1] == at == bm == 1:
        rows_dot(fa, am, fb, to, om, *a.shape, beta)
    else:
        multiply_panels(fa, am, at, np.zeros(len(a), a.dtype), (fb, bm), see, to, om, len(a), len(b), beta)
