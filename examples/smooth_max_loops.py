"""SmoothMax: y = log(mean of exp(a * x)) / a over each window; dx = dy * exp(a * (x - level)).

The level is log(sum of exp(a * x)) / a, and the slope is dy/da.

Order:    the taps of a window row by row; the innermost loop runs along the batch.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx element has one owner, which adds
          what the windows that hold it give.
Source:   Pinheiro and Collobert, CVPR 2015, arXiv 1411.6228, section 3.1.
"""

import numpy as np
from numba import prange

from minet.loops import parallel_kernel
from minet.loops.simd.functions import exp, log


@parallel_kernel
def smooth_max_fprop(x, y, level, slope, a, window, stride, pad, beta):
    """y <- beta*y + f(x), and each window's level and slope."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    beta = x.dtype.type(beta)
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        h0, h1 = max(p * stride[0] - pad[0], 0), min(p * stride[0] - pad[0] + window[0], H)
        top, total, moment = np.empty((3, N), x.dtype)
        for q in range(Q):
            w0, w1 = max(q * stride[1] - pad[1], 0), min(q * stride[1] - pad[1] + window[1], W)
            top[:] = x[c, h0, w0]
            for h in range(h0, h1):
                for w in range(w0, w1):
                    for n in range(N):
                        value = x[c, h, w, n]
                        top[n] = value if value > top[n] else top[n]
            total[:], moment[:] = 0, 0
            for h in range(h0, h1):
                for w in range(w0, w1):
                    for n in range(N):
                        below = x[c, h, w, n] - top[n]
                        power = exp(a[c] * below)
                        total[n] += power
                        moment[n] += power * below
            mean = x.dtype.type(1 / ((h1 - h0) * (w1 - w0)))
            for n in range(N):
                above = log(total[n] * mean) / a[c]
                level[c, p, q, n] = top[n] + log(total[n]) / a[c]
                slope[c, p, q, n] = (moment[n] / total[n] - above) / a[c]
                value = top[n] + above
                if beta != 0:
                    value += beta * y[c, p, q, n]
                y[c, p, q, n] = value


@parallel_kernel
def smooth_max_bprop(x, dy, dx, level, a, window, stride, pad, beta):
    """dx <- beta*dx + dy * exp(a * (x - level)) of the windows that hold it."""
    C, H, W, N = x.shape
    _, P, Q, _ = dy.shape
    beta = x.dtype.type(beta)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        p0 = max((h + pad[0] - window[0]) // stride[0] + 1, 0)
        p1 = min((h + pad[0]) // stride[0] + 1, P)
        total = np.empty(N, x.dtype)
        for w in range(W):
            q0 = max((w + pad[1] - window[1]) // stride[1] + 1, 0)
            q1 = min((w + pad[1]) // stride[1] + 1, Q)
            total[:] = 0
            for p in range(p0, p1):
                for q in range(q0, q1):
                    for n in range(N):
                        power = exp(a[c] * (x[c, h, w, n] - level[c, p, q, n]))
                        total[n] += dy[c, p, q, n] * power
            for n in range(N):
                if beta != 0:
                    total[n] += beta * dx[c, h, w, n]
                dx[c, h, w, n] = total[n]
