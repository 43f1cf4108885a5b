"""Weighted sums of rows, of any length and however short: what separable pooling is made of."""

from . import kernel
from .lanes import (
    add_each,
    add_to_column,
    ahead,
    combined,
    get_column,
    get_lanes,
    get_rows,
    no_lanes,
    put_lanes,
    scaled,
    width,
)  # fmt: skip


@kernel(forceinline=True)
def add_rows(out, src, pitch, n, taps, w, step, beta):
    """out[i] <- beta*out[i] + sum over k < taps of w[k*step] * src[k*pitch + i], for i < n.

    out, src and w are addresses; w may be a number instead, each row's weight.
    """
    clear_if_none(out, n, taps, beta)
    while taps > 0:
        if taps >= 3 and taps != 4:
            taken = 3
            sweep(out, src, pitch, n, 2, w, step, beta, None, None, no_lanes(src, 3))
        elif taps >= 2:
            taken = 2
            sweep(out, src, pitch, n, 1, w, step, beta, None, None, no_lanes(src, 2))
        else:
            taken = 1
            sweep(out, src, pitch, n, 0, w, step, beta, None, None, no_lanes(src, 1))
        taps, src, w, beta = taps - taken, ahead(src, taken * pitch), ahead(w, taken * step), type(beta)(1)


@kernel(forceinline=True)
def combine(out, src, pitch, n, taps, w, step, beta, d, g):
    """`add_rows`, and its share in the gradient of the weights, in one sweep over the rows.

    Unless d is None, g[k*step] += sum over i of d[i] * src[k*pitch + i]; out may be None then. By 5 or 3 taps
    at a time: what is left over meets a weight of 0, and turns an infinity into NaN.
    """
    clear_if_none(out, n, taps, beta)
    while taps > 0:
        if taps <= 3 or taps == 6:
            taken, none = 3, no_lanes(src, 3)
            sweep(out, src, pitch, n, min(taps, 3) - 1, w, step, beta, d, g, none)
        else:
            taken, none = 5, no_lanes(src, 5)
            sweep(out, src, pitch, n, min(taps, 5) - 1, w, step, beta, d, g, none)
        taps, src, w, beta = taps - taken, ahead(src, taken * pitch), ahead(w, taken * step), type(beta)(1)
        g = ahead(g, taken * step)


@kernel(forceinline=True)
def clear_if_none(out, n, taps, beta):
    """What is left of out where there are no rows to add."""
    if taps <= 0 and out is not None:
        for i in range(n):
            out[i] = beta * out[i] if beta != 0 else type(beta)(0)


@kernel(forceinline=True)
def sweep(out, src, pitch, n, last, w, step, beta, d, g, slopes):
    """`combine` for as many taps as there are `slopes`, which begin as zeros."""
    weights, wide = get_column(slopes, w, step, last), width(src)
    whole = n // wide * wide
    for i in range(0, whole, wide):
        slopes = advance(ahead(out, i), ahead(src, i), pitch, last, weights, beta, ahead(d, i), slopes, None)
    if whole < n:
        to, e = ahead(out, whole), ahead(d, whole)
        slopes = advance(to, ahead(src, whole), pitch, last, weights, beta, e, slopes, n - whole)
    if d is not None:
        add_to_column(slopes, g, step, last)


@kernel(forceinline=True)
def advance(out, src, pitch, last, weights, beta, d, slopes, part):
    """A vector of `sweep`, or its first `part` elements."""
    rows = get_rows(weights, src, pitch, last, part)
    if out is not None:
        value = combined(weights, rows)
        put_lanes(value if beta == 0 else scaled(get_lanes(out, part), beta, value), out, part)
    return slopes if d is None else add_each(slopes, get_lanes(d, part), rows)
