"""Convolution in groups of few maps, depthwise above all, directly: a sum over the taps for each output.

    weigh      y[m, p, q, n]     <- beta*y + b[m] + sum over j, r, s of w[m, j, r, s] * x[g*J + j, h, w, n],
               where m is in group g; of dx the same, from dy, with w's first two indices in exchanged roles
    weigh_dw   dw[k, j, r, s]    <- dw + sum over p, q, n of dy[k, p, q, n] * x[g*J + j, h, w, n]
    where h = p*stride - pad + r*dilation, and w likewise from q and s; nothing where h or w is in the padding

Order:    rows along (q, n) where neighbouring windows have the same taps inside and move by one pixel, else
          along n. Four vectors stay in registers while they go through the taps: a sum for each row of the
          window, then over the rows.
Parallel: `weigh` over (m, p): each output has one owner, dx gathers. `weigh_dw` over (k, share of p): a sum
          is float32 over LONGEST elements of a row, float64 beyond; shares are added in their order.
Bytes:    depthwise, per x: fprop reads 4 and writes 4 per y; what windows share comes from cache. bprop reads
          4 and writes 4, and reads dy twice. In groups of J maps x is read J times, from cache.
Source:   textbook. `Axis` says which inputs an output's taps meet, or for dx which outputs meet an input.
"""

from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, scratch
from minet.loops.conv.pack import inputs, outputs
from minet.loops.simd.lanes import address, ahead, get_lanes, get_some, no_lanes, put_some, scaled
from minet.loops.simd.rows import combine
from minet.loops.simd.tile import BYTES

LONGEST = 2048  # elements of a row of which the products are summed in float32
TASKS = 32  # roughly the least number


class Axis(NamedTuple):
    """Which of the inputs along an axis the taps of each output meet."""

    first: np.ndarray  # of output p, the input that its first tap meets
    taps: np.ndarray  # how many taps meet one, `step` inputs apart
    tap: np.ndarray  # the first of these taps, `turn` apart
    run: np.ndarray  # outputs from p on with the same taps, each one input further on
    step: int
    turn: int


@lru_cache(1024)
def axis(make: Any, size: int, windows: int, taps: int, stride: int, pad: int, dilation: int) -> Any:
    """The Axis from inputs to outputs (make=inputs), or back, for dx (make=outputs)."""
    met = make(size, windows, taps, stride, pad, dilation)
    there, every = met >= 0, np.arange(len(met))
    tap, count = there.argmax(1), there.sum(1)
    first, run = np.where(count > 0, met[every, tap], 0), np.ones_like(every)
    for p in range(len(met) - 2, -1, -1):
        if (tap[p], count[p], first[p] + 1) == (tap[p + 1], count[p + 1], first[p + 1]):
            run[p] += run[p + 1]
    apart = gcd(stride, dilation)
    step, turn = (dilation, 1) if make is inputs else (-dilation // apart, stride // apart)
    return Axis(first, count, tap, run, step, turn)


def axes(make, x, y, geometry):
    return [axis(make, *sizes) for sizes in zip(x.shape[1:3], y.shape[1:3], *geometry, strict=True)]


@kernel(forceinline=True)
def weigh_four(to, src, w, taps, steps, bias, beta):
    """Sum four whole vectors of outputs: weights times x, over maps, rows and columns of taps.

    Steps are three in x from src on, then three in w, from one of each to the next.
    """
    lanes, one = BYTES // (4 if type(beta) is np.float32 else 8), type(beta)(1)
    t0 = t1 = t2 = t3 = get_lanes(bias)
    for j in range(taps[0]):
        for r in range(taps[1]):
            a0 = a1 = a2 = a3 = no_lanes(to)
            at, weight = ahead(src, j * steps[0] + r * steps[1]), ahead(w, j * steps[3] + r * steps[4])
            for _ in range(taps[2]):
                factor = weight[0]
                a0 = scaled(get_lanes(at), factor, a0)
                a1 = scaled(get_lanes(ahead(at, lanes)), factor, a1)
                a2 = scaled(get_lanes(ahead(at, 2 * lanes)), factor, a2)
                a3 = scaled(get_lanes(ahead(at, 3 * lanes)), factor, a3)
                at, weight = ahead(at, steps[2]), ahead(weight, steps[5])
            t0, t1 = scaled(a0, one, t0), scaled(a1, one, t1)
            t2, t3 = scaled(a2, one, t2), scaled(a3, one, t3)
    merge(t0, to, beta, None)
    merge(t1, ahead(to, lanes), beta, None)
    merge(t2, ahead(to, 2 * lanes), beta, None)
    merge(t3, ahead(to, 3 * lanes), beta, None)


@kernel(forceinline=True)
def weigh_one(to, src, w, taps, steps, bias, beta, part):
    """Do the same with the first `part` elements of one vector, all if None."""
    one, total = type(beta)(1), get_lanes(bias)
    for j in range(taps[0]):
        for r in range(taps[1]):
            some = no_lanes(to)
            at, weight = ahead(src, j * steps[0] + r * steps[1]), ahead(w, j * steps[3] + r * steps[4])
            for _ in range(taps[2]):
                some = scaled(get_some(at, part), weight[0], some)
                at, weight = ahead(at, steps[2]), ahead(weight, steps[5])
            total = scaled(some, one, total)
    merge(total, to, beta, part)


@kernel(forceinline=True)
def merge(total, to, beta, part):
    put_some(total if beta == 0 else scaled(get_some(to, part), beta, total), to, part)


@kernel(forceinline=True)
def weigh_run(to, src, w, count, taps, steps, bias, lanes, beta):
    """Do the same with `count` elements."""
    n = 0
    while n + 4 * lanes <= count:
        weigh_four(ahead(to, n), ahead(src, n), w, taps, steps, bias, beta)
        n += 4 * lanes
    while n + lanes <= count:
        weigh_one(ahead(to, n), ahead(src, n), w, taps, steps, bias, beta, None)
        n += lanes
    if n < count:
        weigh_one(ahead(to, n), ahead(src, n), w, taps, steps, bias, beta, count - n)


@parallel_kernel
def weigh(x, w, b, y, rows, columns, S, inside, maps, wg, wi, wj, beta):
    """y <- beta*y + b + the weighted taps of `maps` maps of x, for groups of `inside` maps of y.

    In w a group's weights are wg apart, those of a map of y wi, of a map of x wj.
    """
    (_, H, W, N), (M, P, Q, _) = x.shape, y.shape
    lanes, beta, plane = BYTES // y.itemsize, y.dtype.type(beta), H * W * N
    x, y, w = x.reshape(-1), y.reshape(-1), w.reshape(-1)
    steps = plane, rows.step * W * N, columns.step * N, wj, rows.turn * S, columns.turn
    for task in prange(M * P):
        m, p = divmod(np.int64(task), P)
        g, i = divmod(m, inside)
        bias = scratch(lanes, y)
        for n in range(lanes):
            bias[n] = b[m]
        first = address(x, g * maps * plane + rows.first[p] * W * N)
        weights = address(w, g * wg + i * wi + rows.tap[p] * S)
        out, q = address(y, (m * P + p) * Q * N), 0
        while q < Q:
            run, taps = columns.run[q], (maps, rows.taps[p], columns.taps[q])
            src, weight = ahead(first, columns.first[q] * N), ahead(weights, columns.tap[q])
            weigh_run(ahead(out, q * N), src, weight, run * N, taps, steps, address(bias, 0), lanes, beta)
            q += run


@parallel_kernel
def weigh_dw(x, dy, partial, rows, columns, inside):
    """partial (shares, dw) += the sums of dy times what each tap meets, over a share of the rows each."""
    (_, H, W, N), (K, P, Q, _), (shares, _, maps, R, S) = x.shape, dy.shape, partial.shape
    size, one = maps * R * S, x.dtype.type(1)
    x, dy, parts = x.reshape(-1), dy.reshape(-1), partial.reshape(-1)
    for task in prange(K * shares):
        k, share = divmod(np.int64(task), shares)
        g = k // inside
        for p in range(P * share // shares, P * (share + 1) // shares):
            for j in range(maps):
                for r in range(rows.taps[p]):
                    h, tap = rows.first[p] + r * rows.step, rows.tap[p] + r
                    source, delta = ((g * maps + j) * H + h) * W * N, (k * P + p) * Q * N
                    slopes = (share * K + k) * size + (j * R + tap) * S
                    q = 0
                    while q < Q:
                        src, d = address(x, source + columns.first[q] * N), address(dy, delta + q * N)
                        slope, count = address(parts, slopes + columns.tap[q]), columns.run[q] * N
                        for n in range(0, count, LONGEST):
                            some, there = min(count - n, LONGEST), columns.taps[q]
                            at, to = ahead(src, n), ahead(d, n)
                            combine(None, at, columns.step * N, some, there, one, 1, one, to, slope)
                        q += columns.run[q]


def conv(x, w, b, y, geometry, groups, beta):
    """y <- beta*y + b + the convolution of each group's maps."""
    (K, maps, R, S), inside = w.shape, len(w) // groups
    b = np.zeros(K, w.dtype) if b is None else b
    steps = inside * maps * R * S, maps * R * S, R * S
    weigh(x, w, b, y, *axes(inputs, x, y, geometry), S, inside, maps, *steps, beta)


def conv_dx(w, dy, dx, geometry, groups, beta):
    """dx <- beta*dx + what each x had a part in."""
    (_, maps, R, S), inside = w.shape, len(w) // groups
    steps = inside * maps * R * S, R * S, maps * R * S
    none = np.zeros(len(dx), w.dtype)
    weigh(dy, w, none, dx, *axes(outputs, dx, dy, geometry), S, maps, inside, *steps, beta)


def conv_dw(x, dy, dw, geometry, groups):
    """dw += its gradient."""
    shares = min(dy.shape[1], -(-TASKS // len(dw)))
    partial = np.zeros((shares, *dw.shape))
    weigh_dw(x, dy, partial, *axes(inputs, x, dy, geometry), len(dw) // groups)
    dw += np.add.reduce(partial)  # in the order of shares
