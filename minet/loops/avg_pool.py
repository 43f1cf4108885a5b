"""Average pooling: y[c,p,q,n] = mean of x[c,h,w,n] over the part of window (p, q) inside the image.

Order:    that part is a rectangle, so the mean is taken down the columns, then along the row: R + S steps for
          each output instead of R*S. Loops run along (w, n) or (q, n) first, then along n.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx element has one owner, which adds the
          shares of the windows that contain it, down and then along, in the order of p and of q.
Bytes:    3x3 stride 2, float32, for each x: 4 read and 1 written in fprop, the reverse in bprop; `column`
          stays in cache.
Source:   textbook; padding is left out of the mean (count_include_pad=False elsewhere).
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, scratch
from minet.loops.simd.lanes import address
from minet.loops.simd.rows import add_long, add_rows
from minet.loops.window import covering, span

LONG = 64  # terms, of which a sum in float32 would lose digits


@kernel()
def shares(windows, window, stride, pad, size, like):
    """Return, for each window along an axis, 1 / the number of positions inside the image."""
    share = np.empty(windows, like.dtype)
    for p in range(windows):
        start, end = span(p, window, stride, pad, size)
        share[p] = like.dtype.type(1) / like.dtype.type(end - start)
    return share


@parallel_kernel()
def avg_pool_fprop(x, y, window, stride, pad, beta):
    """y <- beta*y + mean over the window."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    x, y, real = x.reshape(-1), y.reshape(-1), y.dtype.type
    beta, zero, one = real(beta), real(0), real(1)
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        column, total = scratch(W * N, y), np.empty(W * N if max(window[0], window[1]) > LONG else 0)
        h0, h1 = span(p, window[0], stride[0], pad[0], H)
        first = address(x, (c * H + h0) * W * N)
        if h1 - h0 > LONG:
            add_long(address(column, 0), first, W * N, W * N, h1 - h0, 1.0, zero, total)
        else:
            add_rows(address(column, 0), first, W * N, W * N, h1 - h0, one, 0, zero)
        for q in range(Q):
            w0, w1 = span(q, window[1], stride[1], pad[1], W)
            share, to = one / real((h1 - h0) * (w1 - w0)), address(y, ((c * P + p) * Q + q) * N)
            if w1 - w0 > LONG:
                add_long(to, address(column, w0 * N), N, N, w1 - w0, np.float64(share), beta, total)
            else:
                add_rows(to, address(column, w0 * N), N, N, w1 - w0, share, 0, beta)


@parallel_kernel()
def avg_pool_bprop(dy, dx, window, stride, pad, beta):
    """dx <- beta*dx + dy / size of each window that contains the position."""
    C, H, W, N = dx.shape
    _, P, Q, _ = dy.shape
    dy, dx, real = dy.reshape(-1), dx.reshape(-1), dx.dtype.type
    beta, zero = real(beta), real(0)
    down = shares(P, window[0], stride[0], pad[0], H, dx)
    along = shares(Q, window[1], stride[1], pad[1], W, dx)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        flat = scratch(Q * N, dx)
        p0, p1 = covering(h, window[0], stride[0], pad[0], P)
        first, share = address(dy, (c * P + p0) * Q * N), address(down, p0)
        add_rows(address(flat, 0), first, Q * N, Q * N, p1 - p0, share, 1, zero)
        q0, q1 = 0, 0
        for w in range(W):
            # The same as `covering`, without its divisions.
            while q0 < Q and q0 * stride[1] - pad[1] + window[1] <= w:
                q0 += 1
            while q1 < Q and q1 * stride[1] - pad[1] <= w:
                q1 += 1
            to, first, share = (
                address(dx, ((c * H + h) * W + w) * N),
                address(flat, q0 * N),
                address(along, q0),
            )
            add_rows(to, first, N, N, q1 - q0, share, 1, beta)
