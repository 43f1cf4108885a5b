"""Max pooling: y[c,p,q,n] = max of x[c,h,w,n] over the window of (p, q).

Tap (r, s) of the window is at h = p*stride - pad + r*dilation, and w likewise.

Order:    rows along n. fprop keeps a vector in registers while it goes through all taps (r, s) of the window,
          row by row; bprop adds a window's deltas to its columns, each where argmax is r*S + s.
          The first of equals wins, NaN wins over any number, padding never wins.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx element has one owner, which adds
          the deltas of the windows that chose it, in the order of (p, q).
Bytes:    3x3 stride 2, float32, for each x: fprop reads 4 (what windows share comes from cache) and writes
          1.25; bprop reads 1.25 and writes 4.
Source:   textbook. The argmax is local to the window, so it is small at any image size.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel
from minet.loops.simd.lanes import address, ahead, get_some, put_some, scaled
from minet.loops.simd.rows import clear_if_none
from minet.loops.simd.select import add_marked, larger, marked, put_marks
from minet.loops.simd.tile import BYTES
from minet.loops.window import covering_spread, span, taps_inside


@kernel(forceinline=True)
def pick(x, y, argmax, rows, columns, pitch, step, tap, S, beta, part):
    """Pick the largest elements of a window whose first tap is `tap`: `part` of a row, or a whole vector.

    Taps are `pitch` elements of x apart down, and `step` across.
    """
    best = get_some(x, part)
    where = marked(best, tap)
    for r in range(rows):
        for s in range(columns):
            other = get_some(ahead(x, r * pitch + s * step), part)
            best, where = larger(best, where, other, tap + r * S + s)
    put_some(best if beta == 0 else scaled(get_some(y, part), beta, best), y, part)
    put_marks(where, argmax, part)


@parallel_kernel()
def max_pool_fprop(x, y, argmax, window, stride, pad, dilation, beta):
    """y <- beta*y + max over the window; argmax <- its tap."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    S, lanes, beta = window[1], BYTES // y.itemsize, y.dtype.type(beta)
    down, across = dilation[0] * W * N, dilation[1] * N
    x, y, argmax = x.reshape(-1), y.reshape(-1), argmax.reshape(-1)
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        r0, r1 = taps_inside(p, window[0], stride[0], pad[0], dilation[0], H)
        h0 = p * stride[0] - pad[0] + r0 * dilation[0]
        image, out = address(x, (c * H + h0) * W * N), address(y, (c * P + p) * Q * N)
        where = address(argmax, (c * P + p) * Q * N)
        for q in range(Q):
            s0, s1 = taps_inside(q, S, stride[1], pad[1], dilation[1], W)
            w0 = q * stride[1] - pad[1] + s0 * dilation[1]
            tap, rows, columns = r0 * S + s0, r1 - r0, s1 - s0
            for n in range(0, N, lanes):
                src, to, marks = ahead(image, w0 * N + n), ahead(out, q * N + n), ahead(where, q * N + n)
                if n + lanes <= N:
                    pick(src, to, marks, rows, columns, down, across, tap, S, beta, None)
                else:
                    pick(src, to, marks, rows, columns, down, across, tap, S, beta, N - n)


@parallel_kernel()
def max_pool_bprop(dy, dx, argmax, window, stride, pad, dilation, beta):
    """dx <- beta*dx + the dy of the windows whose argmax is here."""
    C, H, W, N = dx.shape
    _, P, Q, _ = dy.shape
    S, beta, one = window[1], dx.dtype.type(beta), dx.dtype.type(1)
    dy, dx, argmax = dy.reshape(-1), dx.reshape(-1), argmax.reshape(-1)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        p0, p1, step = covering_spread(h, window[0], stride[0], pad[0], dilation[0], P)
        out = address(dx, (c * H + h) * W * N)
        first, places = address(dy, c * P * Q * N), address(argmax, c * P * Q * N)
        if dilation[1] > 1:  # windows leave gaps
            clear_if_none(out, W * N, 0, beta)
            for p in range(p0, p1, step):
                r = (h - p * stride[0] + pad[0]) // dilation[0]
                for q in range(Q):
                    delta, where = ahead(first, (p * Q + q) * N), ahead(places, (p * Q + q) * N)
                    s0, s1 = taps_inside(q, S, stride[1], pad[1], dilation[1], W)
                    for s in range(s0, s1):
                        w = q * stride[1] - pad[1] + s * dilation[1]
                        add_marked(ahead(out, w * N), delta, where, N, r * S + s, one)
            continue
        done = 0  # the columns that already hold beta*dx
        for p in range(p0, p1, step):
            r = (h - p * stride[0] + pad[0]) // dilation[0]
            for q in range(Q):
                w0, w1 = span(q, S, stride[1], pad[1], W)
                clear_if_none(ahead(out, done * N), (w0 - done) * N, 0, beta)
                delta, where = ahead(first, (p * Q + q) * N), ahead(places, (p * Q + q) * N)
                tap = r * S - q * stride[1] + pad[1]
                for w in range(w0, w1):
                    add_marked(ahead(out, w * N), delta, where, N, tap + w, one if w < done else beta)
                done = max(done, w1)
        clear_if_none(ahead(out, done * N), (W - done) * N, 0, beta)
