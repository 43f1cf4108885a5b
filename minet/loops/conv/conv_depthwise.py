"""Convolution in groups of few maps, depthwise above all, directly: a sum over the taps for each output.

    weigh       y[m, p, q, n]     <- beta*y + b[m] + sum over j, r, s of w[m, j, r, s] * x[g*J + j, h, w, n],
                where m is in group g
    weigh_back  dx[g*J + j, h, w, n] <- beta*dx + sum over m of g, r, s of w[m, j, r, s] * dy[m, p, q, n]
                dw[m, j, r, s]    <- dw + sum over p, q, n of dy[m, p, q, n] * x[g*J + j, h, w, n]
                db[m]             <- db + sum over p, q, n of dy[m, p, q, n]
    where h = p*stride - pad + r*dilation, and w likewise from q and s; nothing where h or w is in the padding

Order:    rows along (q, n) where neighbouring windows have the same taps inside and move by one pixel, else
          along n. Four vectors stay in registers while they go through the taps: a sum for each row of the
          window, then over the rows. Each dy that a row of x meets is read once, for dx and for dw.
Parallel: `weigh` over (m, p), `weigh_back` over (map of x, share of h): each output has one owner, dx
          gathers. dw is float32 in lanes over LONGEST elements of a row, float64 beyond; shares are added in
          their order.
Bytes:    depthwise, per x: fprop reads 4 and writes 4 per y; what windows share comes from cache. bprop reads
          4 and writes 4, and reads dy once. In groups of J maps x is read J times, from cache.
Source:   textbook. `axis` says which inputs an output's taps meet, or for dx which outputs meet an input.
"""

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, scratch
from minet.loops.conv.pack import inputs, outputs
from minet.loops.simd.lanes import (
    address,
    ahead,
    get_lanes,
    get_some,
    multiplied,
    no_lanes,
    put_lanes,
    put_some,
    scaled,
)
from minet.loops.simd.sums import sum_row
from minet.loops.simd.tile import BYTES

LONGEST = 4096  # elements of a row of which the products are summed in float32
TASKS = 32  # roughly the least number


# Rows of an axis' table. Of output p: the input that its first tap meets, how many taps meet one, the first
# of these, how many outputs from p on have the same taps, each one input further on. From one of the taps to
# the next there are STEP inputs and TURN taps.
FIRST, TAPS, TAP, RUN, STEP, TURN = range(6)


@lru_cache(1024)
def axis(make: Any, size: int, windows: int, taps: int, stride: int, pad: int, dilation: int) -> np.ndarray:
    """The table (6, outputs) from inputs to outputs (make=inputs), or back, for dx (make=outputs)."""
    met = make(size, windows, taps, stride, pad, dilation)
    there, every = met >= 0, np.arange(len(met))
    tap, count = there.argmax(1), there.sum(1)
    first, run = np.where(count > 0, met[every, tap], 0), np.ones_like(every)
    for p in range(len(met) - 2, -1, -1):
        if (tap[p], count[p], first[p] + 1) == (tap[p + 1], count[p + 1], first[p + 1]):
            run[p] += run[p + 1]
    apart = gcd(stride, dilation)
    step, turn = (dilation, 1) if make is inputs else (-dilation // apart, stride // apart)
    return np.stack([first, count, tap, run, np.full_like(every, step), np.full_like(every, turn)])


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
def weigh(x, w, b, y, rows, columns, S, inside, maps, ws, beta):
    """y <- beta*y + b + the weighted taps of `maps` maps of x, for groups of `inside` maps of y.

    In w, ws[0] is from group to group, ws[1] from one map of y to the next, ws[2] from one of x.
    """
    (_, H, W, N), (M, P, Q, _) = x.shape, y.shape
    lanes, beta, plane = BYTES // y.itemsize, y.dtype.type(beta), H * W * N
    x, y, w = x.reshape(-1), y.reshape(-1), w.reshape(-1)
    steps = plane, rows[STEP, 0] * W * N, columns[STEP, 0] * N, ws[2], rows[TURN, 0] * S, columns[TURN, 0]
    for task in prange(M * P):
        m, p = divmod(np.int64(task), P)
        g, i = divmod(m, inside)
        bias = scratch(lanes, y)
        for n in range(lanes):
            bias[n] = b[m]
        first = address(x, g * maps * plane + rows[FIRST, p] * W * N)
        weights = address(w, g * ws[0] + i * ws[1] + rows[TAP, p] * S)
        out, q = address(y, (m * P + p) * Q * N), 0
        while q < Q:
            run, taps = columns[RUN, q], (maps, rows[TAPS, p], columns[TAPS, q])
            src, weight = ahead(first, columns[FIRST, q] * N), ahead(weights, columns[TAP, q])
            weigh_run(ahead(out, q * N), src, weight, run * N, taps, steps, address(bias, 0), lanes, beta)
            q += run


@kernel(forceinline=True)
def back_four(dx, x, src, w, slopes, taps, steps, beta):
    """Do what `weigh_four` does, of dx from dy, and add dy times x to the slope of each weight: a vector."""
    lanes, one = BYTES // (4 if type(beta) is np.float32 else 8), type(beta)(1)
    x0, x1 = get_lanes(x), get_lanes(ahead(x, lanes))
    x2, x3 = get_lanes(ahead(x, 2 * lanes)), get_lanes(ahead(x, 3 * lanes))
    t0 = t1 = t2 = t3 = no_lanes(x)
    for j in range(taps[0]):
        for r in range(taps[1]):
            a0 = a1 = a2 = a3 = no_lanes(x)
            at, weight = ahead(src, j * steps[0] + r * steps[1]), j * steps[3] + r * steps[4]
            for _ in range(taps[2]):
                d0, d1 = get_lanes(at), get_lanes(ahead(at, lanes))
                d2, d3 = get_lanes(ahead(at, 2 * lanes)), get_lanes(ahead(at, 3 * lanes))
                slope, factor = ahead(slopes, weight * lanes), ahead(w, weight)[0]
                a0, a1, a2, a3 = (
                    scaled(d0, factor, a0),
                    scaled(d1, factor, a1),
                    scaled(d2, factor, a2),
                    scaled(d3, factor, a3),
                )
                total = multiplied(d1, x1, multiplied(d0, x0, get_lanes(slope)))
                put_lanes(multiplied(d3, x3, multiplied(d2, x2, total)), slope)
                at, weight = ahead(at, steps[2]), weight + steps[5]
            t0, t1 = scaled(a0, one, t0), scaled(a1, one, t1)
            t2, t3 = scaled(a2, one, t2), scaled(a3, one, t3)
    if dx is not None:
        merge(t0, dx, beta, None)
        merge(t1, ahead(dx, lanes), beta, None)
        merge(t2, ahead(dx, 2 * lanes), beta, None)
        merge(t3, ahead(dx, 3 * lanes), beta, None)


@kernel(forceinline=True)
def back_one(dx, x, src, w, slopes, taps, steps, beta, part):
    """Do the same with the first `part` elements of one vector, all if None."""
    lanes, one = BYTES // (4 if type(beta) is np.float32 else 8), type(beta)(1)
    some_x, total = get_some(x, part), no_lanes(x)
    for j in range(taps[0]):
        for r in range(taps[1]):
            some = no_lanes(x)
            at, weight = ahead(src, j * steps[0] + r * steps[1]), j * steps[3] + r * steps[4]
            for _ in range(taps[2]):
                d, slope = get_some(at, part), ahead(slopes, weight * lanes)
                some = scaled(d, ahead(w, weight)[0], some)
                put_lanes(multiplied(d, some_x, get_lanes(slope)), slope)
                at, weight = ahead(at, steps[2]), weight + steps[5]
            total = scaled(some, one, total)
    if dx is not None:
        merge(total, dx, beta, part)


@kernel(forceinline=True)
def back_run(dx, x, src, w, slopes, count, taps, steps, lanes, beta):
    """Do the same with `count` elements."""
    n = 0
    while n + 4 * lanes <= count:
        back_four(ahead(dx, n), ahead(x, n), ahead(src, n), w, slopes, taps, steps, beta)
        n += 4 * lanes
    while n + lanes <= count:
        back_one(ahead(dx, n), ahead(x, n), ahead(src, n), w, slopes, taps, steps, beta, None)
        n += lanes
    if n < count:
        back_one(ahead(dx, n), ahead(x, n), ahead(src, n), w, slopes, taps, steps, beta, count - n)


@kernel
def add_lanes(slopes, total, lanes):
    """Add what the lanes of each weight have summed, and clear them."""
    for tap in range(len(total)):
        for lane in range(tap * lanes, (tap + 1) * lanes):
            total[tap] += slopes[lane]
            slopes[lane] = 0


@parallel_kernel
def weigh_back(x, w, dy, dx, partial, sums, rows, columns, inside, maps, beta):
    """Write dx, flat or None, in groups of `maps` maps of x and `inside` of y, and sum the slopes of w and b.

    Sums over a share of the rows are added to partial (shares, K, maps, R, S) and sums (shares, K).
    """
    (_, H, W, N), (_, P, Q, _), (shares, _, _, R, S) = x.shape, dy.shape, partial.shape
    lanes, beta, size = BYTES // x.itemsize, x.dtype.type(beta), R * S
    at_x, at_dy, at_w = x.reshape(-1), dy.reshape(-1), w.reshape(-1)
    steps = (
        P * Q * N, rows[STEP, 0] * Q * N, columns[STEP, 0] * N,
        maps * size, rows[TURN, 0] * S, columns[TURN, 0],
    )  # fmt: skip
    for task in prange(len(x) * shares):
        m, share = divmod(np.int64(task), shares)
        g, j = divmod(m, maps)
        first_w, reach = (g * inside * maps + j) * size, ((inside - 1) * maps + 1) * size
        slopes, total = scratch(reach * lanes, x), np.zeros(reach)
        slopes[:] = 0
        for h in range(H * share // shares, H * (share + 1) // shares):
            if j == 0:
                for p in range(P * h // H, P * (h + 1) // H):
                    for k in range(g * inside, (g + 1) * inside):
                        sums[share, k] += sum_row(address(at_dy, (k * P + p) * Q * N), Q * N)
            src = address(at_dy, g * inside * P * Q * N + rows[FIRST, h] * Q * N)
            q, held = 0, 0
            while q < W:
                run, taps = columns[RUN, q], (inside, rows[TAPS, h], columns[TAPS, q])
                tap, here, d = rows[TAP, h] * S + columns[TAP, q], (m * H + h) * W * N, columns[FIRST, q] * N
                weights, totals = address(at_w, first_w + tap), address(slopes, tap * lanes)
                for n in range(q * N, (q + run) * N, LONGEST):
                    count = min((q + run) * N - n, LONGEST)
                    if held + count > LONGEST:
                        add_lanes(slopes, total, lanes)
                        held = 0
                    to, at, delta = address(dx, here + n), address(at_x, here + n), ahead(src, d + n - q * N)
                    back_run(to, at, delta, weights, totals, count, taps, steps, lanes, beta)
                    held += count
                q += run
            add_lanes(slopes, total, lanes)
        for i in range(inside):
            for tap in range(size):
                partial[share, g * inside + i, j, tap // S, tap % S] += total[i * maps * size + tap]


def conv(x, w, b, y, geometry, groups, beta):
    """y <- beta*y + b + the convolution of each group's maps."""
    (K, maps, R, S), inside = w.shape, len(w) // groups
    b = np.zeros(K, w.dtype) if b is None else b
    ws = inside * maps * R * S, maps * R * S, R * S
    weigh(x, w, b, y, *axes(inputs, x, y, geometry), S, inside, maps, ws, beta)


def conv_back(x, w, dy, dx, dw, db, geometry, groups, beta):
    """dx <- beta*dx + what each x had a part in; dw and db += their gradients. dx and db may be None."""
    (K, maps, *_), inside = w.shape, len(w) // groups
    shares = min(x.shape[1], -(-TASKS // len(x)))
    partial, sums = np.zeros((shares, *w.shape)), np.zeros((shares, K))
    dx = None if dx is None else dx.reshape(-1)
    weigh_back(x, w, dy, dx, partial, sums, *axes(outputs, x, dy, geometry), inside, maps, beta)
    dw += np.add.reduce(partial)  # in the order of shares
    if db is not None:
        db += np.add.reduce(sums)
