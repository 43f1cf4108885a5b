"""Average pooling: y[c,p,q,n] = mean of x[c,h,w,n] over the part of the window of (p, q) inside the image.

Order:    that part is a rectangle, so the mean is one down the columns, then one along the row: R + S steps
          for each output in place of R*S. Loops run along n; `column` stays in cache.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx element has one owner, who adds the
          shares of the windows that hold it, down and then along, in the order of p and of q.
Bytes:    3x3 stride 2, float32, for each x: 4 read and 1 written in fprop, the reverse in bprop.
Source:   textbook; padding is left out of the mean (count_include_pad=False elsewhere).

Arrays are indexed in full in the loops: views of rows would make Numba tell LLVM that they may overlap.
"""

import numpy as np
from numba import prange

from . import parallel_kernel
from .window import covering, span


@parallel_kernel()
def avg_pool_fprop(x, y, window, stride, pad, beta):
    """y <- beta*y + mean over the window."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    real = y.dtype.type
    beta = real(beta)
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        column, total = np.empty((W, N), y.dtype), np.empty(N, y.dtype)
        h0, h1 = span(p, window[0], stride[0], pad[0], H)
        for h in range(h0, h1):
            for w in range(W):
                for n in range(N):
                    column[w, n] = x[c, h, w, n] if h == h0 else column[w, n] + x[c, h, w, n]
        for q in range(Q):
            w0, w1 = span(q, window[1], stride[1], pad[1], W)
            for w in range(w0, w1):
                for n in range(N):
                    total[n] = column[w, n] if w == w0 else total[n] + column[w, n]
            share = real(1) / real((h1 - h0) * (w1 - w0))
            for n in range(N):
                mean = share * total[n]
                y[c, p, q, n] = mean if beta == 0 else beta * y[c, p, q, n] + mean


@parallel_kernel()
def avg_pool_bprop(dy, dx, window, stride, pad, beta):
    """dx <- beta*dx + dy / cells of each window that holds the position."""
    C, H, W, N = dx.shape
    _, P, Q, _ = dy.shape
    real = dx.dtype.type
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        column = np.empty((Q, N), dx.dtype)
        for q in range(Q):
            for n in range(N):
                column[q, n] = 0
        p0, p1 = covering(h, window[0], stride[0], pad[0], P)
        for p in range(p0, p1):
            h0, h1 = span(p, window[0], stride[0], pad[0], H)
            for q in range(Q):
                w0, w1 = span(q, window[1], stride[1], pad[1], W)
                share = real(1) / real((h1 - h0) * (w1 - w0))
                for n in range(N):
                    column[q, n] += share * dy[c, p, q, n]
        for w in range(W):
            q0, q1 = covering(w, window[1], stride[1], pad[1], Q)
            scale = real(beta)
            if q0 >= q1:
                for n in range(N):
                    dx[c, h, w, n] = real(0) if scale == 0 else scale * dx[c, h, w, n]
            for q in range(q0, q1):
                for n in range(N):
                    dx[c, h, w, n] = column[q, n] if scale == 0 else scale * dx[c, h, w, n] + column[q, n]
                scale = real(1)
