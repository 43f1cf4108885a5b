"""Weighted sums of rows, of any length and however short: what separable pooling is made of."""

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


@kernel(forceinline=True)
def combine(out, src, pitch, n, taps, w, step, beta, d, g):
    """`add_rows`, and its share in the gradient of the weights, in one sweep over the rows.

    Unless d is None, g[k*step] += sum over i of d[i] * src[k*pitch + i]; out may be None then. By 5 or 3 taps
    at a time: what is left over meets a weight of 0, and turns an infinity into NaN.
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
    """What is left of out where there are no rows to add."""
    if taps <= 0 and out is not None:
        for i in range(n):
            out[i] = beta * out[i] if beta != 0 else type(beta)(0)
