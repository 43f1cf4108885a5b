"""The weight gradient of a convolution with fewer multiplications: ``winograd.py`` transposed.

Two neighbouring elements e of a row of dy, and the T = S + 1 pixels d of x that their windows see:

    m[t] = sum over p, u, n of (A' e)[t] * (B d)[t],    dw = G' m

with the A, B and G of F(2, S): 4 multiplications instead of 6 for S = 3, 6 instead of 10 for S = 5.
A value that is not finite spreads along a row of the window, to all of dw[k, c, r].

Order:    as `dots` in ``gemm.py``: SIMD lanes run along the maps of dy, blocks of which are transposed.
Parallel: as there. Rows of x are transformed as they are packed, rows of dy as they are transposed.
Bytes:    as there.
Source:   as ``winograd.py``; the transpose of a bilinear algorithm: Winograd, "Arithmetic complexity of
          computations", SIAM 1980.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, workspace
from minet.loops.conv.gemm import gemm, turn_rows
from minet.loops.conv.winograd import G, couples_view, see_pairs
from minet.loops.simd.lanes import address, ahead, get_lanes, put_lanes, scaled
from minet.loops.simd.tile import BYTES, ROWS, VECS, add_outer, merge_tile, take, zero_tile

GROUP = 64  # maps of dy in a task
BAND = 8  # rows of dy in a block, which share the rows of x
TAPS = 96  # channels times rows of the window in a task
LENGTH = 256  # elements of a row of dy in a block, at least one pair
TASKS = 16  # roughly the least number, if there is enough work; each has its own sums


@kernel
def turn_pairs(a, ai, am, last, columns, N, S, turned, plane):
    """Compute A' e for columns of rows 0 .. last of a, as in `turn_rows`: for m[t] from t*plane on."""
    real, lanes = a.dtype.type, BYTES // a.itemsize
    wide, couples = VECS * lanes, -(-columns // 2)
    size = N * wide
    for q in range(columns):
        to = q // 2 * size + q % 2 * S * plane
        turn_rows(a, ai + q * N, am, last, N, turned[to : to + size])
    if columns % 2:
        turned[S * plane + (couples - 1) * size : S * plane + couples * size] = real(0)
    first = address(turned, 0)
    for t in range(1, S):
        point = real(((t + 1) // 2) * (1 if t % 2 else -1))  # 1, -1, 2, -2
        for j in range(0, couples * size, lanes):
            even, odd = get_lanes(ahead(first, j)), get_lanes(ahead(first, S * plane + j))
            put_lanes(scaled(odd, point, even), ahead(first, t * plane + j))


@kernel
def work_pair_dots(counter, room, partial, a, am, x, xc, v, S, M, C):
    """Do one worker's part of `pair_dots`."""
    (P, R), Q, T, N = v.rows.shape, len(v.columns), S + 1, v.N
    wide, lanes, shares = VECS * BYTES // a.itemsize, BYTES // a.itemsize, len(partial)
    down, across, along = -(-M // GROUP), -(-C // v.channels), -(-Q * N // v.length)
    chunks, tiles, plane = -(-P // v.band) * along, -(-v.channels * R // ROWS), v.length // 2 * wide
    strips = -(-v.length // (2 * wide))
    pitch = strips * wide  # of a transformed line
    size = T * pitch + lanes  # of such a row: an odd number of cache lines
    totals, rest = room[: GROUP * T * tiles * ROWS], room[GROUP * T * tiles * ROWS :]
    turned, rest = rest[: T * plane], rest[T * plane :]
    raw, panel = rest[: (1 + v.tall) * v.pitch], rest[(1 + v.tall) * v.pitch :]
    where, seen = np.empty(ROWS, np.int64), np.empty((v.band, v.channels * R), np.int64)
    panel[:size] = a.dtype.type(0)  # the row in the padding
    task = take(counter)
    while task < shares * down * across:
        share, i0 = task // (down * across), task // across % down * GROUP
        c0 = task % across * v.channels
        i1, c1 = min(i0 + GROUP, M), min(c0 + v.channels, C)
        taps = (c1 - c0) * R
        totals[:] = a.dtype.type(0)
        for chunk in range(chunks * share // shares, chunks * (share + 1) // shares):
            p0, j0 = chunk // along * v.band, chunk % along * v.length
            p1, columns = min(p0 + v.band, P), min(v.length, Q * N - j0) // N
            couples = -(-columns // 2)
            see_pairs(x, xc, v, S, c0, c1, p0, p1, j0, couples, raw, panel, pitch, size, seen)
            for i in range(i0, i1, wide):
                for p in range(p0, p1):
                    last = min(wide, i1 - i) - 1
                    turn_pairs(a, i * am + p * Q * N + j0, am, last, columns, N, S, turned, plane)
                    for t in range(T):
                        to = ((i - i0) // wide * T + t) * tiles * ROWS
                        for tap in range(0, taps, ROWS):
                            for k in range(ROWS):
                                where[k] = seen[p - p0, min(tap + k, taps - 1)] + t * pitch
                            tile = zero_tile(a)
                            for j in range(couples * N):
                                tile = add_outer(tile, panel, where, j, turned, t * plane + j * wide)
                            merge_tile(tile, a.dtype.type(1), totals, (to + tap) * wide, wide)
        for i in range(i0, i1):
            for t in range(T):
                column = ((i - i0) // wide * T + t) * tiles * ROWS * wide + (i - i0) % wide
                for tap in range(taps):
                    partial[share, t, i, c0 * R + tap] = totals[column + tap * wide]
        task = take(counter)


@parallel_kernel
def pair_dots(a, am, x, xc, v, S, partial, work, workers):
    _, _, M, taps = partial.shape
    counter = np.zeros(1, np.int64)
    for worker in prange(workers):
        work_pair_dots(counter, work[worker], partial, a, am, x, xc, v, S, M, taps // v.rows.shape[1])


def multiply_pair_dots(a, x, see, dw):
    """Return the products, like dw, of dy, ``a = (memory, elements of a map)``, and what windows see of x."""
    M, C, R, S = dw.shape
    wide, lanes = VECS * BYTES // dw.itemsize, BYTES // dw.itemsize
    v = couples_view(see, C, dw.itemsize, (TAPS * S, BAND, LENGTH))
    T, strips, tiles = S + 1, -(-v.length // (2 * wide)), -(-v.channels * R // ROWS)
    room = T * (GROUP * tiles * ROWS + v.length // 2 * wide) + (1 + v.tall) * v.pitch
    room += (1 + v.channels * v.tall) * (T * strips * wide + lanes)
    # A small dw has too few blocks for many cores, so its sums are computed in shares, then added in order.
    blocks = -(-M // GROUP) * -(-C // v.channels)
    chunks = -(-len(v.rows) // v.band) * -(-len(v.columns) * v.N // v.length)
    shares = min(chunks, max(1, TASKS // blocks))
    partial, work, workers = workspace(room, dw.dtype, (shares, T, M, C * R))
    pair_dots(*a, *x, v, S, partial, work, workers)
    taps = np.empty((S, M * C * R), dw.dtype)
    gemm(G[S].T.astype(dw.dtype), np.add.reduce(partial).reshape(T, -1), taps, 1, 0, "nn")
    return taps.T.reshape(dw.shape)
