"""Matrix products, where one factor may be the windows of images: convolution without unrolling them.

    panels   out[i, (p, q, n)] <- beta*out + bias[i] + sum over t of a[i, t] * X[t, (p, q, n)]
    dots     out[i, t]         <- beta*out + sum over p, q, n of a[i, (p, q, n)] * X[t, (p, q, n)]
    where t is a tap (c, r, s) and X[t, (p, q, n)] = x[c, rows[p, r], columns[q, s], n], or 0 if they say -1

The tables tell which input a tap meets: they hold stride, pad and dilation, and turned round, from inputs to
outputs, make panels compute dx. A plain matrix is an image of one pixel seen through one tap.

Order: x is (C, H, W, N), out (M, P, Q, N) or (M, C, R, S) with rows om apart, a (M, t) or (M, (p, q, n)).
Parallel: over blocks of out, each with one owner, so that no sum depends on the number of threads. A task
copies the part of X that it needs into a panel that stays in L2, and runs the tiles of ``tile.py`` over it.
Bytes: X is read once for GROUP rows of out.

Why not BLAS: NumPy's has no beta, wants the windows written out first, and its threads and Numba's keep the
cores from each other.
Source: as ``tile.py``; for convolution Chetlur et al., "cuDNN: efficient primitives for deep learning", 2014,
arXiv 1410.0759, section 3.
"""

import numpy as np
from numba import prange

from . import kernel, parallel_kernel
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
PANEL, DEPTH = 4, 512  # panels: strips of columns, and taps, at a time; PANEL * DEPTH strips lie in L2
TAPS, LENGTH = 128, 512  # dots: taps, and terms, at a time; TAPS * LENGTH values lie in L2
TASKS = 32  # dots: at least about so many, if the sums are long enough to be shared


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
def pack_pixel(x, xc, W, N, rows, columns, c0, c1, n0, strips, panel):
    """The taps of channels c0 .. c1-1 on one pixel (its `rows` and `columns`), from sample n0 on.

    Order: (strip, tap, lane); lanes beyond N are 0.
    """
    R, S = len(rows), len(columns)
    wide = VECS * BYTES // x.itemsize
    depth = (c1 - c0) * R * S
    t = 0
    for c in range(c0, c1):
        for r in range(R):
            for s in range(S):
                outside = rows[r] < 0 or columns[s] < 0
                start = c * xc + (rows[r] * W + columns[s]) * N
                for strip in range(strips):
                    n, to = n0 + strip * wide, (strip * depth + t) * wide
                    if outside:
                        clear_strip(panel, to)
                    elif n + wide <= N:
                        copy_strip(x, start + n, panel, to)
                    else:
                        clear_strip(panel, to)
                        copy(x, start + n, panel, to, N - n)
                t += 1


@parallel_kernel
def panels(a, am, at, bias, x, xc, W, N, rows, columns, out, om, M, C, beta):
    (P, R), (Q, S) = rows.shape, columns.shape
    wide = VECS * BYTES // a.itemsize
    channels = min(C, max(1, DEPTH // (R * S)))  # whose taps share a panel
    across = -(-N // (PANEL * wide))
    for task in prange(-(-M // GROUP) * P * Q * across):
        i0, pixel = task // (P * Q * across) * GROUP, task // across % (P * Q)
        n0 = task % across * PANEL * wide
        strips = min(PANEL, -(-(N - n0) // wide))
        panel = np.empty(strips * channels * R * S * wide, a.dtype)
        edge = np.empty(ROWS * wide, a.dtype)
        for c0 in range(0, C, channels):
            c1 = min(c0 + channels, C)
            depth = (c1 - c0) * R * S
            pack_pixel(x, xc, W, N, rows[pixel // Q], columns[pixel % Q], c0, c1, n0, strips, panel)
            keep = beta if c0 == 0 else a.dtype.type(1)
            for i in range(i0, min(i0 + GROUP, M), ROWS):
                last = min(ROWS, M - i) - 1
                for strip in range(strips):
                    tile = rows_tile(bias, i, last) if c0 == 0 else zero_tile(a)
                    ai, pi = i * am + c0 * R * S * at, strip * depth * wide
                    for t in range(depth):
                        tile = add_outer(tile, a, ai + t * at, am, last, panel, pi + t * wide)
                    n = n0 + strip * wide
                    to = i * om + pixel * N + n
                    if last < ROWS - 1 or n + wide > N:
                        put_tile(tile, edge, 0, wide)
                        for k in range(last + 1):
                            for j in range(min(wide, N - n)):
                                put(out, to + k * om + j, edge[k * wide + j], keep)
                    elif keep == 0:
                        put_tile(tile, out, to, om)
                    else:
                        merge_tile(tile, keep, out, to, om)


@kernel
def pack_taps(x, xc, W, N, rows, columns, t0, t1, j0, length, panel):
    """Terms j0 .. j0+length-1 of the taps t0 .. t1-1, one row of the panel for each tap."""
    R, Q, S = rows.shape[1], *columns.shape
    for t in range(t0, t1):
        c, r, s = t // (R * S), t // S % R, t % S
        p, q, n, j = j0 // N // Q, j0 // N % Q, j0 % N, 0
        while j < length:
            count = min(N - n, length - j)
            h, w = rows[p, r], columns[q, s]
            start = -1 if h < 0 or w < 0 else c * xc + (h * W + w) * N + n
            copy(x, start, panel, (t - t0) * LENGTH + j, count)
            n, j, q = 0, j + count, q + 1
            if q == Q:
                p, q = p + 1, 0


@parallel_kernel
def dots(a, am, x, xc, W, N, rows, columns, out, om, M, C, beta):
    T, J = C * rows.shape[1] * columns.shape[1], len(rows) * len(columns) * N
    lanes = BYTES // a.itemsize
    down, across, chunks = -(-M // GROUP), -(-T // TAPS), -(-J // LENGTH)
    # A small out has too few blocks for many cores: its sums are computed in shares, then added in order.
    shares = min(chunks, max(1, TASKS // (down * across)))
    partial = np.empty((shares, M, T) if shares > 1 else (0, 0, 0), a.dtype)
    for task in prange(shares * down * across):
        share, i0, t0 = task // (down * across), task // across % down * GROUP, task % across * TAPS
        i1, t1 = min(i0 + GROUP, M), min(t0 + TAPS, T)
        totals = np.zeros(GROUP * TAPS, a.dtype)
        panel = np.empty(TAPS * LENGTH, a.dtype)
        for chunk in range(chunks * share // shares, chunks * (share + 1) // shares):
            j0 = chunk * LENGTH
            length = min(LENGTH, J - j0)
            whole = length // lanes * lanes
            pack_taps(x, xc, W, N, rows, columns, t0, t1, j0, length, panel)
            for i in range(i0, i1, SIDE):
                for t in range(t0, t1, SIDE):
                    i_last, t_last = min(SIDE, i1 - i) - 1, min(SIDE, t1 - t) - 1
                    tile = zero_tile(a)
                    for j in range(0, whole, lanes):
                        ai, pi = i * am + j0 + j, (t - t0) * LENGTH + j
                        tile = add_lanes(tile, a, ai, am, i_last, panel, pi, LENGTH, t_last)
                    add_sums(tile, totals, (i - i0) * TAPS + t - t0, TAPS)
            for i in range(i0, i1):
                for t in range(t0, t1):
                    for j in range(whole, length):
                        term = a[i * am + j0 + j] * panel[(t - t0) * LENGTH + j]
                        totals[(i - i0) * TAPS + t - t0] += term
        for i in range(i0, i1):
            for t in range(t0, t1):
                if shares > 1:
                    partial[share, i, t] = totals[(i - i0) * TAPS + t - t0]
                else:
                    put(out, i * om + t, totals[(i - i0) * TAPS + t - t0], beta)
    for i in prange(M if shares > 1 else 0):
        for t in range(T):
            total = partial[0, i, t]
            for share in range(1, shares):
                total += partial[share, i, t]
            put(out, i * om + t, total, beta)


@parallel_kernel
def sums(a, am, out, M, T, beta):
    """``out[i] <- beta*out[i] + sum over t of a[i, t]``, in parts: one long sum would lose digits."""
    for i in prange(M):
        total = 0.0
        for t0 in range(0, T, LENGTH):
            part = a.dtype.type(0)
            for t in range(t0, min(t0 + LENGTH, T)):
                part += a[i * am + t]
            total += part
        put(out, i, total, beta)


ONE_TAP = np.zeros((1, 1), np.int64)


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
    fb, bm, _ = flat(b)
    if trans[1] == "n":
        fa, am, at = flat(a)
        bias = np.zeros(len(a), a.dtype)
        panels(fa, am, at, bias, fb, bm, 1, b.shape[1], ONE_TAP, ONE_TAP, to, om, len(a), len(b), beta)
    else:
        fa, am, _ = flat(np.ascontiguousarray(a))
        dots(fa, am, fb, bm, 1, b.shape[1], ONE_TAP, ONE_TAP, to, om, len(a), len(b), beta)


def sum_rows(a, out, beta):
    fa, am, _ = flat(a)
    sums(fa, am, out, *a.shape, out.dtype.type(beta))
