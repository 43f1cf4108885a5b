"""Convolution and its two derivatives, as the products of ``gemm.py`` with tables of where a tap looks.

    conv      y[k, p, q, n]   <- beta*y + b[k] + sum over c, r, s of w[k, c, r, s] * x[c, h, w, n]
    conv_dx   dx[c, h, w, n]  <- beta*dx + sum over k, r, s of w[k, c, r, s] * dy[k, p, q, n]
    conv_dw   dw[k, c, r, s]  <- beta*dw + sum over p, q, n of dy[k, p, q, n] * x[c, h, w, n]
    where h = p*stride - pad + r*dilation, and w likewise from q and s; nothing where h or w is in the padding

Order: x (C, H, W, N), y (K, P, Q, N), w (K, C, R, S). Parallel, bytes, source: see ``gemm.py``. With a
stride, conv_dx multiplies the zeros between the windows too.
"""

from functools import cache

import numpy as np

from .gemm import dots, panels


@cache
def inputs(size, windows, taps, stride, pad, dilation):
    """Table (windows, taps) of the row, or column, of x that a window's tap meets; -1 in the padding."""
    at = np.arange(windows)[:, None] * stride - pad + np.arange(taps) * dilation
    return np.where((at >= 0) & (at < size), at, -1)


@cache
def outputs(size, windows, taps, stride, pad, dilation):
    """Table (size, taps) of the window whose tap meets a row, or column, of x; -1 where there is none."""
    at = np.arange(size)[:, None] + pad - np.arange(taps) * dilation
    window = at // stride
    return np.where((at % stride == 0) & (window >= 0) & (window < windows), window, -1)


@cache
def shifts(make, size, stride, pad, dilation):
    """Where along a row each tap sees its window, if all windows agree in that: their stride is 1."""
    first = np.arange(size) * dilation - pad
    return (first if make is inputs else -first) if stride == 1 else first[:0]


def tables(make, x, y, geometry):
    """For rows and for columns; the geometry is size, stride, pad and dilation of the window."""
    both = [make(*sizes) for sizes in zip(x.shape[1:3], y.shape[1:3], *geometry, strict=True)]
    return *both, shifts(make, *(numbers[1] for numbers in geometry))


def image(x):
    """An image as panels and dots take it: its memory, the sizes of a channel and of a row, and N."""
    return x.reshape(-1), x[0].size, x.shape[2], x.shape[3]


def conv(x, w, b, y, geometry, beta):
    b = np.zeros(len(w), w.dtype) if b is None else b
    panels(w.reshape(-1), w[0].size, 1, b, *image(x), *tables(inputs, x, y, geometry),
           y.reshape(-1), y[0].size, *w.shape[:2], y.dtype.type(beta))  # fmt: skip


def conv_dx(w, dy, dx, geometry, beta):
    w = np.ascontiguousarray(w.swapaxes(0, 1))  # each map of dx sums over all maps of dy
    b = np.zeros(len(w), w.dtype)
    panels(w.reshape(-1), w[0].size, 1, b, *image(dy), *tables(outputs, dx, dy, geometry),
           dx.reshape(-1), dx[0].size, *w.shape[:2], dx.dtype.type(beta))  # fmt: skip


def conv_dw(x, dy, dw, geometry, beta):
    dots(dy.reshape(-1), dy[0].size, *image(x), *tables(inputs, x, dy, geometry),
         dw.reshape(-1), dw[0].size, *dw.shape[:2], dw.dtype.type(beta))  # fmt: skip
