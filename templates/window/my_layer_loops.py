"""MyLayer: y[c,p,q,n] = sum of weights[r,s] * x[c,h,w,n] over the window of (p, q).

h = p*stride - pad + r, and w alike.

Order:    taps (r, s) row by row; the innermost loop runs along the batch.
Parallel: fprop over (c, p), bprop over (c, h). bprop gathers: each dx element has
          one owner, which adds what the windows that hold it give.
"""

import numpy as np
from minet.loops import parallel_kernel
from numba import prange


@parallel_kernel
def my_layer_fprop(x, y, weights, stride, pad, beta):
    """y <- beta*y + the weighted mean of each window."""
    C, H, W, N = x.shape
    _, P, Q, _ = y.shape
    R, S = weights.shape
    beta = x.dtype.type(beta)
    for row in prange(C * P):
        c, p = divmod(np.intp(row), P)
        total = np.empty(N, x.dtype)
        for q in range(Q):
            total[:] = 0
            for r in range(R):
                h = p * stride[0] - pad[0] + r
                for s in range(S):
                    w = q * stride[1] - pad[1] + s
                    if 0 <= h < H and 0 <= w < W:
                        for n in range(N):
                            total[n] += weights[r, s] * x[c, h, w, n]
            for n in range(N):
                if beta != 0:
                    total[n] += beta * y[c, p, q, n]
                y[c, p, q, n] = total[n]


@parallel_kernel
def my_layer_bprop(dy, dx, weights, stride, pad, beta):
    """dx <- beta*dx + weights * dy of the windows that hold it."""
    C, H, W, N = dx.shape
    _, P, Q, _ = dy.shape
    R, S = weights.shape
    beta = dx.dtype.type(beta)
    for row in prange(C * H):
        c, h = divmod(np.intp(row), H)
        total = np.empty(N, dx.dtype)
        for w in range(W):
            total[:] = 0
            for r in range(R):
                p, below = divmod(h + pad[0] - r, stride[0])
                for s in range(S):
                    q, beside = divmod(w + pad[1] - s, stride[1])
                    begins = below == 0 and beside == 0  # a window begins there
                    if begins and 0 <= p < P and 0 <= q < Q:
                        for n in range(N):
                            total[n] += weights[r, s] * dy[c, p, q, n]
            for n in range(N):
                if beta != 0:
                    total[n] += beta * dx[c, h, w, n]
                dx[c, h, w, n] = total[n]
