"""Unroll windows into the columns of a matrix, so that a convolution is a matrix product, and back.

    im2col   col[(c, r, s), (p - p0, q, n)] <- x[c, h, w, n], or 0 in the padding
    col2im   dx[c, h, w, n] <- beta * dx[c, h, w, n] + sum of col[(c, r, s), (p - p0, q, n)]
    where h = p*stride - pad + r*dilation for p in p0 .. p1-1, and w likewise from q and s

Order: x and dx (C, H, W, N), col (C, R, S, p1 - p0, Q, N); all runs along memory are N long, or, if the
horizontal stride is 1, a whole row of windows long. Parallel: im2col over (c, r, s, p), each a row of col;
col2im over (c, h), each a row of dx with one owner, which gathers in the order r, s.
Bytes: im2col reads and writes 4 for each element of col; col2im reads 4 for each element of col, and adds
to a row of dx that stays in L1. In blocks of few p, col itself stays in L2 or L3.
Source: Chellapilla, Puri, Simard, "High performance convolutional neural networks for document
processing", 2006.
"""

from numba import prange

from minet.loops import kernel, parallel_kernel


@kernel
def inside(tap, stride, pad, count, length):
    """Return the range of windows, of `count`, whose tap (r or s times dilation) lies in 0 .. length-1."""
    first = max(0, -((tap - pad) // stride))  # smallest q with q*stride + tap - pad >= 0
    last = (length - 1 + pad - tap) // stride  # largest q with q*stride + tap - pad < length
    first = min(first, count)
    return first, max(first, min(count, last + 1))


@kernel
def split(windows, N, stride):
    """Return how many runs along memory a row of windows has in x, their length, and their distance."""
    return (1, windows * N, 0) if stride == 1 else (windows, N, stride * N)


@parallel_kernel
def im2col(x, col, size, stride, pad, dilation, rows):
    C, H, W, N = x.shape
    R, S = size
    p0, p1 = rows
    count = p1 - p0
    Q = col.shape[1] // (count * N)
    x = x.reshape(C, H, W * N)
    col = col.reshape(C * R * S, count, Q * N)
    for task in prange(C * R * S * count):
        tap, i = task // count, task % count
        c, r, s = tap // (R * S), tap // S % R, tap % S
        h = (p0 + i) * stride[0] - pad[0] + r * dilation[0]
        first, end = inside(s * dilation[1], stride[1], pad[1], Q, W)
        if h < 0 or h >= H:
            first = end = 0
        for j in range(first * N):
            col[tap, i, j] = 0
        runs, length, step = split(end - first, N, stride[1])
        start = (first * stride[1] - pad[1] + s * dilation[1]) * N
        for run in range(runs):
            for j in range(length):
                col[tap, i, first * N + run * N + j] = x[c, h, start + run * step + j]
        for j in range(end * N, Q * N):
            col[tap, i, j] = 0


@parallel_kernel
def col2im(col, dx, size, stride, pad, dilation, rows, beta):
    C, H, W, N = dx.shape
    R, S = size
    p0, p1 = rows
    count = p1 - p0
    Q = col.shape[1] // (count * N)
    P = (H + 2 * pad[0] - dilation[0] * (R - 1) - 1) // stride[0] + 1
    dx = dx.reshape(C, H, W * N)
    col = col.reshape(C, R, S, count, Q * N)
    # Rows of dx from `fresh` on are reached for the first time and apply beta; those before only add.
    reach = dilation[0] * (R - 1) + 1 - pad[0]
    fresh = 0 if p0 == 0 else min(H, max(0, (p0 - 1) * stride[0] + reach))
    end_h = H if p1 == P else min(H, max(0, (p1 - 1) * stride[0] + reach))
    h0 = min(fresh, max(0, p0 * stride[0] - pad[0]))
    for task in prange(C * (end_h - h0)):
        c, h = task // (end_h - h0), h0 + task % (end_h - h0)
        if h >= fresh:
            if beta == 0:
                for j in range(W * N):
                    dx[c, h, j] = 0
            elif beta != 1:
                for j in range(W * N):
                    dx[c, h, j] *= beta
        for r in range(R):
            up = h + pad[0] - r * dilation[0]
            p = up // stride[0]
            if p * stride[0] != up or p < p0 or p >= p1:
                continue
            for s in range(S):
                first, end = inside(s * dilation[1], stride[1], pad[1], Q, W)
                runs, length, step = split(end - first, N, stride[1])
                start = (first * stride[1] - pad[1] + s * dilation[1]) * N
                for run in range(runs):
                    for j in range(length):
                        dx[c, h, start + run * step + j] += col[c, r, s, p - p0, first * N + run * N + j]
