"""Convolution and its derivative by x, as products of ``gemm.py`` with tables of what each tap sees.

    conv      y[k, p, q, n]   <- beta*y + b[k] + sum over c, r, s of w[k, c, r, s] * x[c, h, w, n]
    conv_dx   dx[c, h, w, n]  <- beta*dx + sum over k, r, s of w[k, c, r, s] * dy[k, p, q, n]
    where h = p*stride - pad + r*dilation, and w likewise from q and s; nothing where h or w is in the padding

Order: x (C, H, W, N), y (K, P, Q, N), w (K, C, R, S). Parallel, bytes, source: see ``gemm.py``. With a
stride, conv_dx multiplies the zeros between the windows too.
"""

import numpy as np

import minet.loops.conv.winograd as winograd
from minet.core.layer import update
from minet.loops.conv.gemm import multiply_panels
from minet.loops.conv.pack import inputs, outputs
from minet.loops.simd.tile import BYTES, VECS


def seen(make, x, y, geometry):
    """Return how windows of that size, stride, pad and dilation see an image."""
    return make, x.shape[1:3], y.shape[1:3], geometry, x.shape[3]


def image(x):
    """Return the memory of an image, and the number of elements of a channel."""
    return x.reshape(-1), x[0].size


def conv(x, w, b, y, geometry, beta):
    b = np.zeros(len(w), w.dtype) if b is None else b
    if fills_more_lanes_flat(x, y, geometry):
        conv_flat(x, w, b, y, geometry, beta)
    else:
        multiply(w, b, x, seen(inputs, x, y, geometry), y, geometry, beta)


def multiply(w, b, x, see, y, geometry, beta):
    """y <- beta*y + b + w times what the windows see of x; also used with dy and dx for x and y."""
    beta = y.dtype.type(beta)
    out, pitch = image(y)
    # Pairs share products: an infinity would reach its neighbours, and a sum may overflow on the way to a
    # finite result. Then y is computed again, directly; not if it is added to, so that asks first.
    pays = winograd.pays_in_pairs(w, y, geometry) and winograd.alike(w).all()
    paired = pays and (beta == 0 or winograd.moderate(x))
    if paired and winograd.multiply_pairs(w, b, image(x), see, out, pitch, beta):
        return
    if not paired or beta == 0:
        M, C = w.shape[:2]
        multiply_panels(w.reshape(-1), w[0].size, 1, b, image(x), see, out, pitch, M, C, beta)


def fills_more_lanes_flat(x, y, geometry):
    """Whether the padded image as one row needs clearly fewer strips of lanes than y row by row."""
    (_, P, Q, N), wide = y.shape, VECS * BYTES // x.itemsize
    flat, apart = -(-P * padded_to(x, y, geometry)[1] * N // wide), P * -(-Q * N // wide)
    return geometry[1] == (1, 1) and flat < 0.8 * apart


def padded_to(x, y, geometry):
    """Return height and width of an image in its padding, up to the last window's end; the stride is 1."""
    return [
        max(before + size, count + step * (taps - 1))
        for size, count, taps, before, step in zip(
            x.shape[1:3], y.shape[1:3], geometry[0], geometry[2], geometry[3], strict=True
        )
    ]


def conv_flat(x, w, b, y, geometry, beta):
    """Convolve the padded image as one row, in which a tap is a distance, if rows leave lanes empty.

    Results across the end of a row lie between the rows of y, and are dropped.
    """
    (R, S), _, pad, dilation = geometry
    (C, H, W, N), (K, P, Q, _) = x.shape, y.shape
    height, row = padded_to(x, y, geometry)
    padded = np.zeros((C, height, row, N), x.dtype)
    padded[:, pad[0] : pad[0] + H, pad[1] : pad[1] + W] = x
    out = np.empty((K, P, row * N), x.dtype)
    taps = tuple(r * dilation[0] * row + s * dilation[1] for r in range(R) for s in range(S))
    flat = (1, R * S), (1, 1), (0, 0), (1, taps)
    see = inputs, (1, padded[0, ..., 0].size), (1, P * row), flat, N
    multiply_panels(w.reshape(-1), w[0].size, 1, b, image(padded), see, *image(out), K, C, x.dtype.type(0))
    update(y, out[:, :, : Q * N].reshape(y.shape), beta)


def conv_dx(w, dy, dx, geometry, beta):
    w = np.ascontiguousarray(w.swapaxes(0, 1))  # each map of dx sums over all maps of dy
    see = seen(outputs, dx, dy, geometry)
    multiply(w, np.zeros(len(w), w.dtype), dy, see, dx, geometry, beta)
