"""Average pooling: y[c,p,q,n] = mean of x[c,h,w,n] over the part of window (p, q) inside the image.

Order:    that part is a grid of rows and columns, so the mean is taken down the columns, then along the row:
          R + S steps for each output instead of R*S. Loops run along (w, n) or (q, n) first, then along n.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx element has one owner, which adds the
          shares of the windows that contain it, down and then along, in the order of p and of q.
Bytes:    3x3 stride 2, float32, for each x: 4 read and 1 written in fprop, the reverse in bprop; `column`
          stays in cache.
Source:   textbook. The Spans of ``window.py`` say which positions windows meet, and how many count.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel, scratch
from minet.loops.simd.lanes import address
from minet.loops.simd.rows import add_long, add_rows

LONG = 64  # terms, of which a sum in float32 would lose digits


@kernel()
def shares(counted, like):
    """Return 1 / counted for each window."""
    share = np.empty(len(counted), like.dtype)
    for p in range(len(counted)):
        share[p] = like.dtype.type(1) / like.dtype.type(counted[p])
    return share


@parallel_kernel()
def avg_pool_fprop(x, y, rows, columns, beta):
    """y <- beta*y + mean over the window."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    x, y, real = x.reshape(-1), y.reshape(-1), y.dtype.type
    beta, zero, one = real(beta), real(0), real(1)
    most = max(rows.taps.max(), columns.taps.max())
    down, across = rows.step * W * N, columns.step * N
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        column, total = scratch(W * N, y), np.empty(W * N if most > LONG else 0)
        first = address(x, (c * H + rows.first[p]) * W * N)
        if rows.taps[p] > LONG:
            add_long(address(column, 0), first, down, W * N, rows.taps[p], 1.0, zero, total)
        else:
            add_rows(address(column, 0), first, down, W * N, rows.taps[p], one, 0, zero)
        for q in range(Q):
            share = one / real(rows.counted[p] * columns.counted[q])
            to, first = address(y, ((c * P + p) * Q + q) * N), address(column, columns.first[q] * N)
            if columns.taps[q] > LONG:
                add_long(to, first, across, N, columns.taps[q], np.float64(share), beta, total)
            else:
                add_rows(to, first, across, N, columns.taps[q], share, 0, beta)


@parallel_kernel()
def avg_pool_bprop(dy, dx, rows, columns, beta):
    """dx <- beta*dx + dy / what each window that holds the position divides by."""
    C, H, W, N = dx.shape
    _, P, Q, _ = dy.shape
    dy, dx, real = dy.reshape(-1), dx.reshape(-1), dx.dtype.type
    beta, zero = real(beta), real(0)
    down, along = shares(rows.counted, dx), shares(columns.counted, dx)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        flat = scratch(Q * N, dx)
        p, apart = rows.low[h], rows.apart
        first, share = address(dy, (c * P + p) * Q * N), address(down, p)
        add_rows(address(flat, 0), first, apart * Q * N, Q * N, rows.held[h], share, apart, zero)
        apart = columns.apart
        for w in range(W):
            q, to = columns.low[w], address(dx, ((c * H + h) * W + w) * N)
            first, share = address(flat, q * N), address(along, q)
            add_rows(to, first, apart * N, N, columns.held[w], share, apart, beta)
