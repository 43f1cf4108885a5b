"""bprop of a Gaussian readout, whose windows are the whole image: one weight for each kernel and pixel.

    dx[c, h, w, n] = sum over j of w[c*J + j, h, w] * dy[j*C + c, n]
    dw[c*J + j, h, w] = sum over n of dy[j*C + c, n] * x[c, h, w, n]

Order:    for each pixel, one sweep along n over the deltas of all kernels, which stay in L1.
Parallel: over (c, h); each pixel owns its dx and its dw.
Bytes:    4 read for each x and 4 written for each dx, for any J.
Source:   the gradient of a product of matrices. fprop is that of ``gaussian_pool.py`` or
          ``gaussian_pool_full.py``, with one window.
"""

from typing import Any

import numpy as np
from numba import prange

from minet.loops import parallel_kernel
from minet.loops.gaussian_pool import LONGEST
from minet.loops.gaussian_pool_full import FullTables
from minet.loops.gaussian_pool_weights import Tables
from minet.loops.simd.lanes import address
from minet.loops.simd.rows import combine


class ReadoutTables:
    """What fprop and bprop need to know of the weights, from the tables of windows as large as the image."""

    def __init__(self, tables: Tables | FullTables, dtype: Any) -> None:
        self.tables, self.fprop = tables, tables.fprop
        if isinstance(tables, FullTables):
            w = np.moveaxis(tables.w[0, 0], 2, 0)
        else:
            self.down, self.across = (weights.w[0].T for weights in tables.weights)  # (sets, H), (sets, W)
            w = self.down[:, :, None] * self.across[:, None, :]
        self.w = np.ascontiguousarray(w, dtype)

    def bprop(self, x: Any, dy: Any, dx: Any, learn: bool, beta: float) -> dict[str, np.ndarray]:
        """Compute dx unless it is None, and return the slopes of the parameters, by name, if they learn."""
        into = np.empty((0, *x.shape[1:]), x.dtype) if dx is None else dx
        dw = np.zeros(self.w.shape)
        gaussian_pool_readout_bprop(x, dy, into, self.w, dw, learn, beta)
        if not learn:
            return {}
        if isinstance(self.tables, FullTables):
            return self.tables.slopes(np.moveaxis(dw, 0, 2)[None, None])
        sides = (dw @ self.across[..., None])[..., 0], (self.down[:, None] @ dw)[:, 0]
        by = [w.slopes(side.T[None]) for w, side in zip(self.tables.weights, sides, strict=True)]
        return {name: np.stack([slopes[name] for slopes in by], axis=-1) for name in ("mean", "sigma")}


def tables_of(full: bool, readout: bool, *args: Any) -> Tables | FullTables | ReadoutTables:
    """Return the tables of that kind, from the arguments of Tables; the last one is the dtype."""
    tables = FullTables(*args) if full else Tables(*args)
    return ReadoutTables(tables, args[-1]) if readout else tables


@parallel_kernel
def gaussian_pool_readout_bprop(x, dy, dx, w, dw, learn, beta):
    """dx <- beta*dx + what all kernels give back, unless dx is empty; dw += its gradient if `learn`.

    w and dw are (C*J, H, W).
    """
    C, H, W, N = x.shape
    J = len(w) // C
    x, dy, dx, w, dw = x.reshape(-1), dy.reshape(-1), dx.reshape(-1), w.reshape(-1), dw.reshape(-1)
    beta = x.dtype.type(beta)
    for task in prange(C * H):
        c, h = divmod(np.int64(task), H)
        for s in range(W):
            pixel, at = ((c * H + h) * W + s) * N, (c * J * H + h) * W + s
            weights, slopes = address(w, at), address(dw, at)
            for n in range(0, N, LONGEST):
                part, deltas = min(N - n, LONGEST), address(dy, c * N + n)
                out, image = address(dx, pixel + n), address(x, pixel + n)
                if len(dx) and learn:
                    combine(out, deltas, C * N, part, J, weights, H * W, beta, image, slopes)
                elif learn:
                    combine(None, deltas, C * N, part, J, weights, H * W, beta, image, slopes)
                else:
                    combine(out, deltas, C * N, part, J, weights, H * W, beta, None, None)
