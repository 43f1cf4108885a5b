"""Generalised-mean pooling: y[c,p,q,n] = (mean of a^k over window (p, q))^(1/k), a = max(x[c,h,w,n], least).

Order:    the window's pixels row by row, the innermost loop along n: their maximum first, then the powers of
          a / maximum.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx adds up the windows that hold it.
Bytes:    3x3 stride 2, float32, for each x: 4 read in fprop, 3 written with `mean` and `slope`; in bprop 4
          read and 4 written, and 2 read of dy and `mean`. Logarithms and powers take longer than that.
Source:   Radenović, Tolias, Chum, arXiv 1711.02512.
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel


@kernel()
def span(p, window, stride, pad, size):
    """Return the half-open range of input positions inside both the image and the window of output p."""
    start = p * stride - pad
    return max(start, 0), min(start + window, size)


@kernel()
def covering(h, window, stride, pad, count):
    """Return the half-open range of those of `count` outputs whose windows contain input position h."""
    return max((h + pad - window + stride) // stride, 0), min((h + pad) // stride + 1, count)


@kernel()
def at_least(x, least):
    """Return max(x, least); NaN stays NaN."""
    return least if x < least else x


@parallel_kernel()
def gem_pool_fprop(x, y, mean, slope, power, window, stride, pad, least, beta):
    """y <- beta*y + mean, mean <- the generalised mean, slope <- its slope by k = power[c]."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    real = y.dtype.type
    least, beta, one = real(least), real(beta), real(1)
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        top, total, moment, k = np.empty(N, y.dtype), np.empty(N, y.dtype), np.empty(N, y.dtype), power[c]
        h0, h1 = span(p, window[0], stride[0], pad[0], H)
        for q in range(Q):
            w0, w1 = span(q, window[1], stride[1], pad[1], W)
            top[:], total[:], moment[:] = least, real(0), real(0)
            for h in range(h0, h1):
                for w in range(w0, w1):
                    for n in range(N):
                        top[n] = max(top[n], at_least(x[c, h, w, n], least))
            for h in range(h0, h1):
                for w in range(w0, w1):
                    for n in range(N):
                        log = np.log(at_least(x[c, h, w, n], least) / top[n])
                        a = np.exp(k * log)
                        total[n] += a
                        moment[n] += a * log
            share = one / real((h1 - h0) * (w1 - w0))
            for n in range(N):
                level = np.log(total[n] * share) / k
                value = top[n] * np.exp(level)
                mean[c, p, q, n] = value
                slope[c, p, q, n] = value / k * (moment[n] / total[n] - level)
                y[c, p, q, n] = value if beta == 0 else beta * y[c, p, q, n] + value


@parallel_kernel()
def gem_pool_bprop(x, dy, dx, mean, power, window, stride, pad, least, beta):
    """dx <- beta*dx + sum over the windows that hold x of dy * (a / mean)^(k-1) / pixels, where x > least."""
    C, H, W, N = x.shape
    _, P, Q, _ = dy.shape
    real = dx.dtype.type
    least, beta, one, zero = real(least), real(beta), real(1), real(0)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        total, k = np.empty(N, dx.dtype), power[c] - one
        p0, p1 = covering(h, window[0], stride[0], pad[0], P)
        for w in range(W):
            q0, q1 = covering(w, window[1], stride[1], pad[1], Q)
            total[:] = zero
            for p in range(p0, p1):
                h0, h1 = span(p, window[0], stride[0], pad[0], H)
                for q in range(q0, q1):
                    w0, w1 = span(q, window[1], stride[1], pad[1], W)
                    share = one / real((h1 - h0) * (w1 - w0))
                    for n in range(N):
                        ratio = at_least(x[c, h, w, n], least) / mean[c, p, q, n]
                        total[n] += dy[c, p, q, n] * share * ratio**k
            for n in range(N):
                value = zero if x[c, h, w, n] <= least else total[n]
                dx[c, h, w, n] = value if beta == 0 else beta * dx[c, h, w, n] + value
