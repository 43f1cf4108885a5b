"""Weighted sums of rows of any length, even very short ones: the basis of separable pooling."""

from minet.loops import kernel
from minet.loops.simd.lanes import ahead, sweep


@kernel(forceinline=True)
def add_rows(out, src, pitch, n, taps, w, step, beta):
    """out[i] <- beta*out[i] + sum over k < taps of w[k*step] * src[k*pitch + i], for i < n.

    out, src and w are addresses; w may be a number instead, each row's weight.
    """
    clear_if_none(out, n, taps, beta)
    while taps > 0:
        if taps >= 3 and taps != 4:
            taken = 3
            sweep(3, out, src, pitch, n, 2, w, step, beta, None, None)
        elif taps >= 2:
            taken = 2
            sweep(2, out, src, pitch, n, 1, w, step, beta, None, None)
        else:
            taken = 1
            sweep(1, out, src, pitch, n, 0, w, step, beta, None, None)
        taps, src, w, beta = (
            taps - taken,
            ahead(src, taken * pitch),
            ahead(w, taken * step),
            type(beta)(1),
        )


@kernel
def add_long(out, src, pitch, n, taps, share, beta, total):
    """Do `add_rows` with one weight for many rows: their sum is float64, in `total`, and keeps its digits."""
    for i in range(n):
        total[i] = 0
    for k in range(taps):
        row = ahead(src, k * pitch)
        for i in range(n):
            total[i] += row[i]
    for i in range(n):
        value = type(beta)(share * total[i])
        out[i] = value if beta == 0 else beta * out[i] + value


@kernel(forceinline=True)
def combine(out, src, pitch, n, taps, w, step, beta, d, g):
    """Do `add_rows`, and add to the gradient of the weights, in one sweep over the rows.

    Unless d is None, g[k*step] += sum over i of d[i] * src[k*pitch + i]; out may be None then. Taps are taken
    5 or 3 at a time; missing ones have a weight of 0, which turns an infinity into NaN.
    """
    clear_if_none(out, n, taps, beta)
    while taps > 0:
        if taps <= 3 or taps == 6:
            taken = 3
            sweep(3, out, src, pitch, n, min(taps, 3) - 1, w, step, beta, d, g)
        else:
            taken = 5
            sweep(5, out, src, pitch, n, min(taps, 5) - 1, w, step, beta, d, g)
        taps, src, w, beta = (
            taps - taken,
            ahead(src, taken * pitch),
            ahead(w, taken * step),
            type(beta)(1),
        )
        g = ahead(g, taken * step)


@kernel(forceinline=True)
def clear_if_none(out, n, taps, beta):
    """out <- beta*out if there are no rows to add."""
    if taps <= 0 and out is not None:
        for i in range(n):
            out[i] = beta * out[i] if beta != 0 else type(beta)(0)
