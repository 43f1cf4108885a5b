"""Average pooling: y[c,p,q,n] = mean of x[c,h,w,n] over the part of the window of (p, q) inside the image.

Order:    that part is a rectangle, so the mean is one down the columns, then one along the row: R + S steps
          for each output in place of R*S. Loops run along (w, n) or (q, n) first, then along n.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx element has one owner, who adds the
          shares of the windows that hold it, down and then along, in the order of p and of q.
Bytes:    3x3 stride 2, float32, for each x: 4 read and 1 written in fprop, the reverse in bprop; `column`
          stays in cache.
Source:   textbook; padding is left out of the mean (count_include_pad=False elsewhere).
"""

import numpy as np
from numba import prange

from . import kernel, parallel_kernel, scratch
from .window import covering, span


@kernel(forceinline=True)
def add_rows(out, o, src, a, pitch, n, taps, share, beta):
    """out[o+i] <- beta*out[o+i] + share * sum over k < taps of src[a + k*pitch + i], for i < n.

    By 4, 2 or 1 taps at a time, so that the sum stays in registers.
    """
    # Unsigned, so that Numba leaves out the wrap-around of negative indices, and the loops become SIMD.
    o, a, pitch, n = np.uint64(o), np.uint64(a), np.uint64(pitch), np.uint64(n)
    zero, one = src.dtype.type(0), src.dtype.type(1)
    if taps <= 0:
        for i in range(n):
            out[o + i] = beta * out[o + i] if beta != 0 else zero
    while taps > 0:
        a1 = a + pitch
        a2 = a1 + pitch
        a3 = a2 + pitch
        if taps >= 4:
            for i in range(n):
                total = (src[a + i] + src[a1 + i]) + (src[a2 + i] + src[a3 + i])
                old = beta * out[o + i] if beta != 0 else zero
                out[o + i] = old + share * total
            taps, a = taps - 4, a3 + pitch
        elif taps >= 2:
            for i in range(n):
                total = src[a + i] + src[a1 + i]
                old = beta * out[o + i] if beta != 0 else zero
                out[o + i] = old + share * total
            taps, a = taps - 2, a2
        else:
            for i in range(n):
                old = beta * out[o + i] if beta != 0 else zero
                out[o + i] = old + share * src[a + i]
            taps, a = taps - 1, a1
        beta = one


@parallel_kernel()
def avg_pool_fprop(x, y, window, stride, pad, beta):
    """y <- beta*y + mean over the window."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    x, y, real = x.reshape(-1), y.reshape(-1), y.dtype.type
    beta, zero, one = real(beta), real(0), real(1)
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        column = scratch(W * N, y)
        h0, h1 = span(p, window[0], stride[0], pad[0], H)
        add_rows(column, 0, x, (c * H + h0) * W * N, W * N, W * N, h1 - h0, one, zero)
        for q in range(Q):
            w0, w1 = span(q, window[1], stride[1], pad[1], W)
            share = one / real((h1 - h0) * (w1 - w0))
            add_rows(y, ((c * P + p) * Q + q) * N, column, w0 * N, N, N, w1 - w0, share, beta)


@parallel_kernel()
def avg_pool_bprop(dy, dx, window, stride, pad, beta):
    """dx <- beta*dx + dy / cells of each window that holds the position."""
    C, H, W, N = dx.shape
    _, P, Q, _ = dy.shape
    dy, dx, real = dy.reshape(-1), dx.reshape(-1), dx.dtype.type
    beta, zero, one = real(beta), real(0), real(1)
    along = np.empty(Q * N, dx.dtype)
    for q in range(Q):
        w0, w1 = span(q, window[1], stride[1], pad[1], W)
        for n in range(N):
            along[q * N + n] = one / real(w1 - w0)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        flat = scratch(Q * N, dx)
        p0, p1 = covering(h, window[0], stride[0], pad[0], P)
        for p in range(p0, p1):
            h0, h1 = span(p, window[0], stride[0], pad[0], H)
            share, keep = one / real(h1 - h0), one if p > p0 else zero
            add_rows(flat, 0, dy, (c * P + p) * Q * N, 0, Q * N, 1, share, keep)
        for i in range(Q * N):
            flat[i] *= along[i]
        q0, q1 = 0, 0
        for w in range(W):
            # As `covering` does, without its divisions.
            while q0 < Q and q0 * stride[1] - pad[1] + window[1] <= w:
                q0 += 1
            while q1 < Q and q1 * stride[1] - pad[1] <= w:
                q1 += 1
            taps = q1 - q0 if p0 < p1 else 0
            add_rows(dx, ((c * H + h) * W + w) * N, flat, q0 * N, N, N, taps, one, beta)
