"""Convolution with fewer multiplications, windows 3 or 5 wide, horizontal stride 1: Winograd's F(2, S).

Two neighbouring outputs of a row see T = S + 1 pixels d of a row of x. Each of T sums, over channels c and
rows r of the window, is a separate product, and the outputs are combined from them:

    m[t] = sum over c, r of (G w[c, r])[t] * (B d[c, r])[t],    y[2u] and y[2u+1] = A m

For S = 3 that takes 4 multiplications instead of 6, for S = 5 it takes 6 instead of 10. d enters only the m
of its own windows' outputs, so a NaN stays in its windows. An infinity becomes a NaN.

Order:    as `panels` in ``gemm.py``, whose tiles these are, with pairs of columns (u, n) in SIMD lanes.
Parallel: as there. Rows are transformed once they are packed, sums before they are written.
Bytes:    as there; a group's sums are T / 2 times as large.
Source:   Lavin, Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, arXiv 1509.09308,
          in one dimension; for S = 5 with the points 0, 1, -1, 2, -2 of its F(4, 3).
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, workspace
from minet.loops.conv.gemm import gemm
from minet.loops.conv.pack import pack, view
from minet.loops.simd.lanes import address, ahead, get_lanes, put_lanes, scaled
from minet.loops.simd.tile import (
    BYTES,
    ROWS,
    VECS,
    add_outer,
    get_tile,
    plus_tile,
    put_tile,
    rows_tile,
    take,
    zero_tile,
)

GROUP = 128  # rows of out in a task
BAND = 2  # rows of pixels in a task
TAPS = 96  # channels times rows of the window at a time
LENGTH = 256  # elements of a row of out in a task, at least one pair of pixels

G = {
    3: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    5: np.array(
        [
            [1 / 4, 0, 0, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6, 1 / 3, 2 / 3],
            [1 / 24, -1 / 12, 1 / 6, -1 / 3, 2 / 3],
            [0, 0, 0, 0, 1],
        ]
    ),
}


@kernel
def transform(src, a, N, couples, S, out, o, pitch):
    """Compute B d for the pairs of the packed row at src[a]; m[t]'s part is a line at out[o + t*pitch]."""
    real, lanes = src.dtype.type, BYTES // src.itemsize
    one, two, four, five = real(1), real(2), real(4), real(5)
    for u in range(couples):
        for n in range(0, N, lanes):
            d, to = address(src, a + 2 * u * N + n), address(out, o + u * N + n)
            d0, d1, d2 = get_lanes(d), get_lanes(ahead(d, N)), get_lanes(ahead(d, 2 * N))
            d3 = get_lanes(ahead(d, 3 * N))
            if S == 3:
                put_lanes(scaled(d2, -one, d0), to)
                put_lanes(scaled(d2, one, d1), ahead(to, pitch))
                put_lanes(scaled(d1, -one, d2), ahead(to, 2 * pitch))
                put_lanes(scaled(d1, -one, d3), ahead(to, 3 * pitch))
            else:
                d4, d5 = get_lanes(ahead(d, 4 * N)), get_lanes(ahead(d, 5 * N))
                odd, even = scaled(d1, -one, d3), scaled(d2, -one, d4)
                put_lanes(scaled(d0, four, scaled(d2, -five, d4)), to)
                put_lanes(scaled(scaled(d1, one, d2), -four, scaled(d3, one, d4)), ahead(to, pitch))
                far = ahead(to, 2 * pitch)
                put_lanes(scaled(scaled(d1, -one, d2), -four, scaled(d3, -one, d4)), far)
                put_lanes(scaled(odd, two, even), ahead(to, 3 * pitch))
                put_lanes(scaled(odd, -two, even), ahead(to, 4 * pitch))
                put_lanes(scaled(d1, four, scaled(d3, -five, d5)), ahead(to, 5 * pitch))


@kernel(forceinline=True)
def put_pair(m, plane, S, y, N, both, beta, guard):
    """Compute A m: write a vector of y[2u] and, if `both`, of y[2u+1], N further on.

    Return `guard`, in which NaN marks the lanes where a value was not finite.
    """
    one, zero = type(beta)(1), type(beta)(0)
    m1, m2 = get_lanes(ahead(m, plane)), get_lanes(ahead(m, 2 * plane))
    m3 = get_lanes(ahead(m, 3 * plane))
    even, odd = scaled(get_lanes(m), one, scaled(m2, one, m1)), scaled(m2, -one, m1)
    if S == 3:
        odd = scaled(m3, one, odd)
    else:
        m4, m5 = get_lanes(ahead(m, 4 * plane)), get_lanes(ahead(m, 5 * plane))
        even = scaled(m3, one, scaled(m4, one, even))
        odd = scaled(scaled(m4, -one, m3), one + one, scaled(m5, one, odd))
    put_lanes(even if beta == 0 else scaled(get_lanes(y), beta, even), y)
    guard = scaled(even, zero, guard)
    if both:
        y = ahead(y, N)
        put_lanes(odd if beta == 0 else scaled(get_lanes(y), beta, odd), y)
        guard = scaled(odd, zero, guard)
    return guard


@kernel
def find(v, p, channels, low, size, at):
    """Find where the panel rows, of `size`, that window rows r see begin, for output row p."""
    for c in range(channels):
        for r in range(v.rows.shape[1]):
            h = v.rows[p, r]
            at[c * v.rows.shape[1] + r] = (1 + c * v.tall + h - low) * size if h >= 0 else 0


@kernel
def see_pairs(x, xc, v, S, c0, c1, p0, p1, j0, couples, raw, panel, pitch, size, seen):
    """Pack, transform and find the rows that output rows p0 .. p1-1 see of channels c0 .. c1-1."""
    low = np.int64(0)
    for c in range(c0, c1):
        low = pack(x, xc, v, c, c + 1, p0, p1, j0, 2 * couples * v.N, raw)
        for h in range(v.tall):
            line = (1 + (c - c0) * v.tall + h) * size
            transform(raw, (1 + h) * v.pitch, v.N, couples, S, panel, line, pitch)
    for p in range(p0, p1):
        find(v, p, c1 - c0, low, size, seen[p - p0])


@kernel
def work_pairs(counter, room, a, bias, x, xc, v, S, out, om, M, C, beta):
    """Do one worker's part of `pairs`; return whether all that it wrote is finite."""
    (P, R), Q, T, N = v.rows.shape, len(v.columns), S + 1, v.N
    wide, lanes = VECS * BYTES // a.itemsize, BYTES // a.itemsize
    high, across, down = -(-P // v.band), -(-Q * N // v.length), -(-M // GROUP)
    strips = -(-v.length // (2 * wide))
    pitch = strips * wide  # of a transformed line
    size = T * pitch + lanes  # of such a row: an odd number of cache lines
    raw, rest = room[: (1 + v.tall) * v.pitch], room[(1 + v.tall) * v.pitch :]
    plane = v.band * strips * GROUP * wide  # sums of one t
    sums, panel = rest[: T * plane], rest[T * plane :]
    where, seen = np.empty(ROWS, np.int64), np.empty((v.band, v.channels * R), np.int64)
    panel[:size] = a.dtype.type(0)  # the row in the padding
    marks = np.zeros(lanes, a.dtype)
    guard = get_lanes(address(marks, 0))
    task = take(counter)
    while task < down * high * across:
        i0 = task // (high * across) * GROUP
        p0, j0 = task // across % high * v.band, task % across * v.length
        i1, p1, count = min(i0 + GROUP, M), min(p0 + v.band, P), min(v.length, Q * N - j0)
        couples = -(-count // (2 * N))
        for c0 in range(0, C, v.channels):
            c1 = min(c0 + v.channels, C)
            see_pairs(x, xc, v, S, c0, c1, p0, p1, j0, couples, raw, panel, pitch, size, seen)
            for t in range(T):
                ai, mine = (t * M * C + c0) * R, t * plane
                for p in range(p0, p1):
                    for j in range(0, couples * N, wide):
                        for i in range(i0, i1, ROWS):
                            last = min(ROWS, i1 - i) - 1
                            for k in range(ROWS):
                                where[k] = (i + min(k, last)) * C * R
                            if c0 == 0 and t == 1:
                                tile = rows_tile(bias, i, last)  # m[1] is in both outputs
                            else:
                                tile = zero_tile(a)
                            for tap in range((c1 - c0) * R):
                                at = seen[p - p0, tap] + t * pitch + j
                                tile = add_outer(tile, a, where, ai + tap, panel, at)
                            if c0 > 0:
                                tile = plus_tile(tile, get_tile(sums, mine))
                            put_tile(tile, sums, mine, wide)
                            mine += ROWS * wide
        m, y = address(sums, 0), address(out, 0)  # once: for each vector it would cost more than the rest
        for p in range(p0, p1):
            for j in range(0, couples * N, wide):
                for i in range(i0, i1):
                    for n in range(j, min(j + wide, couples * N), lanes):
                        q = j0 // N + 2 * (n // N)
                        to = ahead(y, i * om + (p * Q + q) * N + n % N)
                        guard = put_pair(ahead(m, n - j), plane, S, to, N, q + 1 < Q, beta, guard)
                    m = ahead(m, wide)
                m = ahead(m, -(i1 - i0) % ROWS * wide)
        task = take(counter)
    put_lanes(guard, address(marks, 0))
    return not np.isnan(marks).any()


@parallel_kernel
def pairs(a, bias, x, xc, v, S, out, om, M, C, beta, work, workers, finite):
    counter = np.zeros(1, np.int64)
    for worker in prange(workers):
        finite[worker] = work_pairs(counter, work[worker], a, bias, x, xc, v, S, out, om, M, C, beta)


def couples_view(see, C, itemsize, blocks):
    """Return a `view` whose blocks have rows of whole pairs of pixels, also for an odd number of columns."""
    taps, band, length = blocks
    pair, lanes = 2 * see[-1], BYTES // itemsize
    v = view(*see, C, itemsize, (taps, band, max(1, length // pair) * pair))
    length = -(-v.length // pair) * pair
    return v._replace(length=length, pitch=-(-length // (VECS * lanes)) * VECS * lanes + v.far + lanes)


def multiply_pairs(w, bias, x, see, out, om, beta):
    """Do `multiply_panels` of ``gemm.py`` with weights w (M, C, R, S): S is 3 or 5, N of whole vectors.

    Return whether all that was written is finite.
    """
    M, C, _, S = w.shape
    wide, lanes = VECS * BYTES // out.itemsize, BYTES // out.itemsize
    v = couples_view(see, C, out.itemsize, (TAPS * S, BAND, LENGTH))
    taps = np.ascontiguousarray(w.reshape(-1, S)[:, np.argsort(v.begin)].T)
    a = np.empty((S + 1, taps.shape[1]), w.dtype)  # (T, (M, C, R))
    gemm(G[S].astype(w.dtype), taps, a, 1, 0, "nn")
    T, strips = S + 1, -(-v.length // (2 * wide))
    room = (1 + v.tall) * v.pitch + v.band * strips * GROUP * wide * T
    room += (1 + v.channels * v.tall) * (T * strips * wide + lanes)
    _, work, workers = workspace(room, out.dtype)
    finite = np.empty(workers, np.bool_)
    pairs(a.reshape(-1), bias, *x, v, S, out, om, M, C, beta, work, workers, finite)
    return bool(finite.all())


def pays_in_pairs(w, y, geometry):
    """Whether Winograd's algorithm applies, with enough sums and maps to pay for its transforms."""
    (M, C, R, S), (_, _, Q, N) = w.shape, y.shape
    _, stride, _, dilation = geometry
    fits = S in (3, 5) and stride[1] == dilation[1] == 1 and N % (BYTES // y.itemsize) == 0
    return fits and C * R >= 128 and M >= 32 and Q >= 4


ALIKE, MODERATE = 8, 1e30


def alike(w):
    """For each map, whether all columns of taps are about as large: pairs lose the digits of small ones."""
    size = np.einsum("mcrs,mcrs->ms", w, w, dtype=np.float64)
    return size.max(1) <= ALIKE**2 * size.min(1)


def moderate(x):
    """Whether no number is so large that pairs could overflow, and none is NaN."""
    return bool(max(x.max(), -x.min()) < MODERATE)
