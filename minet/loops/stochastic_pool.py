"""Stochastic pooling: y[c,p,q,n] = x at a position of the window of (p, q) drawn with probability a / total.

Here a = max(x, 0) inside the image and total = sum of a. The draw: u in [0, 1) is the element's own uniform
number (``philox.py``; element = flat index in y of the whole batch); the pick is the first position with
a > 0 at which the running sum exceeds t = u * total, or the last with a > 0 if rounding leaves none. In
evaluation there is no draw: y = sum of a^2 / total, the mean over all draws.
A window with no a > 0 gives 0. A total that is not finite (a NaN, an infinity, an overflow) gives NaN. Both
leave `picked` at R*S, which is no position of the window, so that no delta goes anywhere.

Order:    rows along n, taps (r, s) row by row, while a vector's state stays in registers. Both sums of a draw
          are plain sequential additions in that order, without fastmath, and t is rounded before it is
          compared: a backend that does the same picks the same positions, bit for bit.
          The mean is taken as in average pooling, down and then along: R + S steps instead of R*S. Where
          squares are too small or too large for that, it is the sum of a * (a / total).
Parallel: fprop over (c, p), bprop over (c, h) by gather; the mean's fprop over c and parts of p, its bprop
          over c, one owner for each channel.
Bytes:    as max pooling, whose bprop is used in training: dx <- beta*dx + dy of the windows that picked x.
Source:   Zeiler & Fergus, "Stochastic pooling for regularization of deep convolutional neural networks",
          ICLR 2013.

The loops index arrays in full: with views of rows, Numba would tell LLVM that they may overlap.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel
from minet.loops.max_pool import max_pool_bprop as stochastic_pool_bprop  # noqa: F401
from minet.loops.philox import uniform, words
from minet.loops.simd.lanes import address, ahead, get_some, no_lanes, put_some, scaled
from minet.loops.simd.rows import add_rows
from minet.loops.simd.select import draw, marked, positive_lanes, put_marks, threshold
from minet.loops.simd.tile import BYTES
from minet.loops.window import met, taps_inside

TINY, TINY64 = 1e8 * np.finfo(np.float32).tiny, 1e8 * np.finfo(np.float64).tiny  # squares below lose digits
PARTS = 4  # of a map's rows of windows; the mean allocates memory once for each part


@kernel(fastmath=False)
def positive(x):
    """Return max(x, 0); NaN stays NaN."""
    return type(x)(0) if x <= 0 else x


@kernel(fastmath=False, forceinline=True)
def pick(x, u, y, picked, rows, columns, pitch, step, tap, S, nowhere, beta, part):
    """Draw from windows whose first tap is `tap`: `part` elements of a row, or a whole vector.

    Taps are `pitch` elements of x apart down, and `step` across.
    """
    total, one = no_lanes(x), type(beta)(1)
    for r in range(rows):
        for s in range(columns):
            total = scaled(positive_lanes(get_some(ahead(x, r * pitch + s * step), part)), one, total)
    t, value = threshold(get_some(u, part), total)
    running, where = no_lanes(x), marked(total, nowhere)
    for r in range(rows):
        for s in range(columns):
            a = positive_lanes(get_some(ahead(x, r * pitch + s * step), part))
            running, value, where = draw(a, tap + r * S + s, t, running, value, where)
    put_some(value if beta == 0 else scaled(get_some(y, part), beta, value), y, part)
    put_marks(where, picked, part)


@kernel(fastmath=False)
def uniforms(first, count, key, step, like):
    """Return the uniform numbers of elements 4*first .. 4*(first + count) - 1."""
    u = np.empty((count, 4), like.dtype)
    for block in range(count):
        word0, word1, word2, word3 = words(key[0], key[1], step, first + block)
        u[block, 0] = uniform(word0)
        u[block, 1] = uniform(word1)
        u[block, 2] = uniform(word2)
        u[block, 3] = uniform(word3)
    return u.reshape(-1)


@kernel(fastmath=False)
def uniforms_of_part(row, Q, N, part, key, step, like):
    """Return the uniform numbers of row (c, p) of y; `part` is (its first sample, all samples)."""
    u = np.empty(Q * N, like.dtype)
    for q in range(Q):
        first, skip = divmod((row * Q + q) * part[1] + part[0], 4)
        u[q * N : (q + 1) * N] = uniforms(first, (skip + N + 3) // 4, key, step, like)[skip : skip + N]
    return u


@parallel_kernel(fastmath=False)
def stochastic_pool_fprop(x, y, picked, window, stride, pad, dilation, beta, key, step, part):
    """y <- beta*y + the drawn value; picked <- its tap. `part` is that of `uniforms_of_part`, or None."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    R, S = window
    lanes, beta = BYTES // y.itemsize, y.dtype.type(beta)
    down, across, nowhere = dilation[0] * W * N, dilation[1] * N, R * S
    x, y, picked = x.reshape(-1), y.reshape(-1), picked.reshape(-1)
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        # One block of words serves four elements of y, wherever the row begins.
        if part is None:
            first, skip = divmod((c * P + p) * Q * N, 4)
            u = uniforms(first, (skip + Q * N + 3) // 4, key, step, y)
        else:
            skip, u = 0, uniforms_of_part(c * P + p, Q, N, part, key, step, y)
        r0, r1 = taps_inside(p, R, stride[0], pad[0], dilation[0], H)
        h0 = p * stride[0] - pad[0] + r0 * dilation[0]
        image, out = address(x, (c * H + h0) * W * N), address(y, (c * P + p) * Q * N)
        where = address(picked, (c * P + p) * Q * N)
        for q in range(Q):
            s0, s1 = taps_inside(q, S, stride[1], pad[1], dilation[1], W)
            w0 = q * stride[1] - pad[1] + s0 * dilation[1]
            tap, rows, columns, drawn = r0 * S + s0, r1 - r0, s1 - s0, address(u, skip + q * N)
            for n in range(0, N, lanes):
                src, to, marks = ahead(image, w0 * N + n), ahead(out, q * N + n), ahead(where, q * N + n)
                draws, left = ahead(drawn, n), N - n
                if left >= lanes:
                    pick(src, draws, to, marks, rows, columns, down, across, tap, S, nowhere, beta, None)
                else:
                    pick(src, draws, to, marks, rows, columns, down, across, tap, S, nowhere, beta, left)


@kernel(forceinline=True)
def column_sums(x, at, size, pitch, taps, total, square):
    """Sum, for i < size, the positive values of x[at + k*pitch + i] over k < taps, and their squares."""
    at, size, pitch, zero = np.uint64(at), np.uint64(size), np.uint64(pitch), x.dtype.type(0)
    first = True
    while taps > 0:
        two, three = taps > 1, taps > 2
        b = at + pitch if two else at
        c = b + pitch if three else b
        for i in range(size):
            s, t, u = positive(x[at + i]), positive(x[b + i]), positive(x[c + i])
            t, u = t if two else zero, u if three else zero
            total[i] = s + t + u + (zero if first else total[i])
            square[i] = s * s + t * t + u * u + (zero if first else square[i])
        first, taps, at = False, taps - 3, c + pitch


@kernel(fastmath=False)
def sums(x, c, rows, columns, total, mean):
    """Sum the positive values a of a window, for each n, and a * (a / total): a * a might underflow.

    The mean is NaN if the total is not finite, or 0, where it is not used.
    """
    N = x.shape[3]
    for n in range(N):
        total[n] = mean[n] = 0
    for h in rows:
        for w in columns:
            for n in range(N):
                total[n] += positive(x[c, h, w, n])
    for h in rows:
        for w in columns:
            for n in range(N):
                a = positive(x[c, h, w, n])
                mean[n] += a * (a / total[n])
    for n in range(N):
        if not total[n] < np.inf:
            mean[n] = np.nan


@kernel(fastmath=False)
def any_lost(total, square, at, N):
    """Whether a sum of squares among N has lost digits because they were too small, or is infinite."""
    tiny, lost = square.dtype.type(TINY if square.itemsize == 4 else TINY64), False
    for i in range(np.uint64(at), np.uint64(at + N)):
        lost |= (total[i] > 0) & ~((square[i] > tiny) & (square[i] < np.inf))
    return lost


@parallel_kernel()
def stochastic_pool_mean_fprop(x, y, window, stride, pad, dilation, beta):
    """y <- beta*y + sum of a^2 / sum of a, both summed down the columns, then along the row."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    beta, zero, one = y.dtype.type(beta), y.dtype.type(0), y.dtype.type(1)
    images, x, y = x, x.reshape(-1), y.reshape(-1)
    for task in prange(C * PARTS):
        c, part = divmod(np.intp(task), PARTS)
        # Both sums: of the columns, (W, N), then of the windows, (Q, N).
        total, square = np.empty((W + Q) * N, y.dtype), np.empty((W + Q) * N, y.dtype)
        for p in range(P * part // PARTS, P * (part + 1) // PARTS):
            rows = met(p, window[0], stride[0], pad[0], dilation[0], H)
            first, pitch = (c * H + rows.start) * W * N, dilation[0] * W * N
            column_sums(x, first, W * N, pitch, len(rows), total, square)
            for q in range(Q):
                columns = met(q, window[1], stride[1], pad[1], dilation[1], W)
                w0, taps, apart = columns.start, len(columns), dilation[1] * N
                into = np.uint64((W + q) * N)
                if N < 4:  # loops along n would take longer to start than to run
                    for n in range(np.uint64(N)):
                        t = u = zero
                        at = np.uint64(w0 * N) + n
                        for _ in range(taps):
                            t += total[at]
                            u += square[at]
                            at += np.uint64(apart)
                        total[into + n], square[into + n] = t, u
                else:
                    add_rows(address(total, into), address(total, w0 * N), apart, N, taps, one, 0, zero)
                    add_rows(address(square, into), address(square, w0 * N), apart, N, taps, one, 0, zero)
                if any_lost(total, square, into, N):
                    sums(images, c, rows, columns, total[into : into + N], square[into : into + N])
                    for n in range(np.uint64(N)):
                        total[into + n] = one if total[into + n] > 0 else total[into + n]
            out, windows = np.uint64((c * P + p) * Q * N), np.uint64(W * N)
            for i in range(np.uint64(Q * N)):
                t, u = total[windows + i], square[windows + i]
                mean = u / t if t > 0 else t
                y[out + i] = mean if beta == 0 else beta * y[out + i] + mean


@parallel_kernel()
def stochastic_pool_mean_bprop(x, dy, dx, window, stride, pad, dilation, beta):
    """dx <- beta*dx + sum over windows of dy * (2a - mean) / total where a > 0."""
    C, H, W, N = x.shape
    _, P, Q, _ = dy.shape
    real = dx.dtype.type
    beta, zero = real(beta), real(0)
    for c in prange(C):
        total, mean = np.empty(N, dx.dtype), np.empty(N, dx.dtype)
        for h in range(H):
            for w in range(W):
                for n in range(N):
                    dx[c, h, w, n] = zero if beta == 0 else beta * dx[c, h, w, n]
        for p in range(P):
            rows = met(p, window[0], stride[0], pad[0], dilation[0], H)
            for q in range(Q):
                columns = met(q, window[1], stride[1], pad[1], dilation[1], W)
                sums(x, c, rows, columns, total, mean)
                for h in rows:
                    for w in columns:
                        for n in range(N):
                            a = x[c, h, w, n]
                            slope = (a + a - mean[n]) / total[n]
                            dx[c, h, w, n] += dy[c, p, q, n] * slope if a > 0 else zero
