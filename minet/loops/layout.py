"""Images from one order of axes to the other: out[c, p, n] = x[n, c, p], and back, p being the pixels.

All four cases, from and to NCHW and channels last, are planes of a matrix each that are transposed: rows of x
become columns of y. In NCHW there is a plane for each channel, in channels last one for each pixel.

Order:    squares of a cache line's width, turned in registers, so that each line is read and written once.
Parallel: over planes and strips of their columns.
Bytes:    each element is read once and written once.
Source:   textbook.
"""

import numpy as np
from numba import prange

from minet.loops import parallel_kernel, scratch
from minet.loops.simd.tile import VECS, copy_lanes, turn

STRIP = 64  # squares side by side in a task: neighbours in memory


@parallel_kernel()
def transpose(x, y, rows, columns, planes, x_row, x_plane, y_column, y_plane):
    """y[plane, column, row] = x[plane, row, column], on flat arrays.

    x_row is how far apart rows of x are, and so on; columns of x lie side by side, and so do rows of y.
    """
    lanes = 64 // x.itemsize
    width = STRIP * lanes
    strips = -(-columns // width)
    for at in prange(planes * strips):
        plane, first = at // strips, at % strips * width
        last = min(first + width, columns)
        begin, end, whole = plane * x_plane, plane * y_plane, rows // lanes * lanes
        square = scratch(VECS * lanes * lanes, x)
        for row in range(0, whole, lanes):
            column = first
            while column + lanes <= last:
                turn(x, begin + row * x_row + column, x_row, lanes - 1, square, 0)
                for j in range(lanes):
                    copy_lanes(square, VECS * j * lanes, y, end + (column + j) * y_column + row)
                column += lanes
            for rest in range(column, last):
                for r in range(row, row + lanes):
                    y[end + rest * y_column + r] = x[begin + r * x_row + rest]
        for column in range(first, last):
            for r in range(whole, rows):
                y[end + column * y_column + r] = x[begin + r * x_row + column]


def lay(x, out):
    """out[c, h, w, n] <- x[n, c, h, w], for a contiguous array `out`; strides of x are 0 or more."""
    C, H, W, N = out.shape
    flat, sn, sc, sp = _flat(x)
    if not sn and not sc and not sp:
        out.fill(x[0, 0, 0, 0])  # as the gradient of a sum is
    elif sp == 1 and (sc != 1 or H * W >= C):
        transpose(flat, out.reshape(-1), N, H * W, C, sn, sc, N, H * W * N)
    elif sc == 1:
        transpose(flat, out.reshape(-1), N, C, H * W, sn, sp, H * W * N, N)
    else:
        np.copyto(out, x.transpose(1, 2, 3, 0))


def lift(a, out):
    """out[n, c, h, w] <- a[c, h, w, n], for a contiguous array `a`; strides of `out` are 1 or more."""
    C, H, W, N = a.shape
    flat, sn, sc, sp = _flat(out)
    if sp == 1 and (sc != 1 or H * W >= C):
        transpose(a.reshape(-1), flat, H * W, N, C, N, H * W * N, sn, sc)
    elif sc == 1:
        transpose(a.reshape(-1), flat, C, N, H * W, H * W * N, N, sn, sp)
    else:
        np.copyto(out, a.transpose(3, 0, 1, 2))


def _flat(x):
    """The memory of an array (N, C, H, W) from its first to its last element, and its strides in elements.

    Those are from one sample to the next, from channel to channel, and from pixel to pixel; the last one is
    -1 if there is no such number.
    """
    _, C, H, W = x.shape
    if x.flags.c_contiguous:
        return x.reshape(-1), C * H * W, H * W, 1
    sn, sc, sh, sw = (stride // x.itemsize for stride in x.strides)
    sp = sh if W == 1 else sw if H == 1 or sh == W * sw else -1
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.strides, strict=True)) // x.itemsize
    return np.lib.stride_tricks.as_strided(x, (span,), (x.itemsize,)), sn, sc, sp
