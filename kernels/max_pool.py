"""Max pooling: y[c,p,q,n] = max of x[c,h,w,n] over the window of (p, q), h = p*stride - pad + r, w alike.

Order:    rows along n; taps (r, s) row by row, three at a time, so that the best stays in registers;
          argmax holds r*S + s. The first of equals wins, NaN wins over any number, padding never wins.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx element has one owner, who adds the
          deltas of the windows that chose it in the order of (p, q).
Bytes:    3x3 stride 2, float32, for each x: fprop reads 4 (what windows share comes from cache) and
          writes 1.25; bprop reads 1.25 and writes 4.
Source:   textbook. The argmax is local to the window, so that it is small whatever the image's size.

Arrays are indexed in full in the loops: views of rows would make Numba tell LLVM that they may overlap.
"""

import numpy as np
from numba import prange

from . import kernel, parallel_kernel
from .window import covering, span


@kernel()
def larger(a, tap, best, where):
    """The larger value and its tap; on a tie the one that was there."""
    wins = (a > best) | (a != a)
    return a if wins else best, tap if wins else where


@parallel_kernel()
def max_pool_fprop(x, y, argmax, window, stride, pad, beta):
    """y <- beta*y + max over the window; argmax <- where it was."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    R, S = window
    beta, index = y.dtype.type(beta), argmax.dtype.type
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        best, where = np.empty(N, y.dtype), np.empty(N, argmax.dtype)
        h0, h1 = span(p, R, stride[0], pad[0], H)
        for q in range(Q):
            w0, w1 = span(q, S, stride[1], pad[1], W)
            corner = (p * stride[0] - pad[0]) * S + q * stride[1] - pad[1]
            for n in range(N):
                best[n] = x[c, h0, w0, n]
                where[n] = h0 * S + w0 - corner
            for h in range(h0, h1):
                for w in range(w0, w1, 3):
                    # Where the window ends, its last tap comes again, and changes nothing.
                    wb, wc = min(w + 1, w1 - 1), min(w + 2, w1 - 1)
                    base = h * S - corner
                    tap_a, tap_b, tap_c = index(base + w), index(base + wb), index(base + wc)
                    for n in range(N):
                        b, i = larger(x[c, h, w, n], tap_a, best[n], where[n])
                        b, i = larger(x[c, h, wb, n], tap_b, b, i)
                        best[n], where[n] = larger(x[c, h, wc, n], tap_c, b, i)
            for n in range(N):
                argmax[c, p, q, n] = where[n]
                y[c, p, q, n] = best[n] if beta == 0 else beta * y[c, p, q, n] + best[n]


@parallel_kernel()
def max_pool_bprop(dy, dx, argmax, window, stride, pad, beta):
    """dx <- beta*dx + the dy of the windows whose argmax is here; two windows at a time, a last alone."""
    C, H, W, N = dx.shape
    _, P, Q, _ = dy.shape
    R, S = window
    real, index = dx.dtype.type, argmax.dtype.type
    zero = real(0)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        p0, p1 = covering(h, R, stride[0], pad[0], P)
        for w in range(W):
            q0, q1 = covering(w, S, stride[1], pad[1], Q)
            scale = real(beta)
            if p0 >= p1 or q0 >= q1:
                for n in range(N):
                    dx[c, h, w, n] = zero if scale == 0 else scale * dx[c, h, w, n]
            for p in range(p0, p1):
                for q in range(q0, q1, 2):
                    tap = (h - p * stride[0] + pad[0]) * S + w - q * stride[1] + pad[1]
                    tap_a, tap_b = index(tap), index(tap - stride[1])
                    if q + 1 < q1:
                        for n in range(N):
                            a, b = dy[c, p, q, n], dy[c, p, q + 1, n]
                            delta = a if argmax[c, p, q, n] == tap_a else zero
                            delta += b if argmax[c, p, q + 1, n] == tap_b else zero
                            dx[c, h, w, n] = delta if scale == 0 else scale * dx[c, h, w, n] + delta
                    else:
                        for n in range(N):
                            a = dy[c, p, q, n]
                            delta = a if argmax[c, p, q, n] == tap_a else zero
                            dx[c, h, w, n] = delta if scale == 0 else scale * dx[c, h, w, n] + delta
                    scale = real(1)
