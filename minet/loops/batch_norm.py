"""Batch normalisation: xhat = (x - mean) * inv_std for each channel; y = gamma*xhat + shift.

In training mean and variance are the batch's, over the M = H*W*N elements of a channel, and
dx = gamma*inv_std * (dy - sum(dy)/M - xhat * sum(dy*xhat)/M); otherwise they are constants and
dx = gamma*inv_std * dy. Either way dgamma = sum(dy*xhat), dshift = sum(dy).

Order:    rows x[c] of M elements. Sums are float64: the mean first, then the squared deviations from it.
Parallel: over c; a row that fits into the cache is read from memory once.
Bytes:    per element in float32: 8 forward, 12 backward, 4 more if beta is not 0.
Source:   Ioffe & Szegedy, "Batch normalization", ICML 2015, arXiv 1502.03167, algorithms 1 and 2.
"""

import numpy as np
from numba import prange

from minet.loops import parallel_kernel
from minet.loops.simd.lanes import address
from minet.loops.simd.sums import sum_and_moment, sum_row, sum_squares


@parallel_kernel()
def batch_norm_statistics(x, mean, inv_std, running_mean, running_var, momentum, eps):
    """Set the batch's mean and inv_std; where finite, running <- momentum*running + (1-momentum)*batch."""
    C, M = x.shape
    for c in prange(C):
        row = x[c]
        centre = sum_row(address(row, 0), M) / M
        squares = sum_squares(address(row, 0), M, centre)
        mean[c], inv_std[c] = centre, 1 / np.sqrt(squares / M + eps)
        variance = x.dtype.type(squares / max(M - 1, 1))
        if np.isfinite(variance):
            running_mean[c] = momentum * running_mean[c] + (1 - momentum) * centre
            running_var[c] = momentum * running_var[c] + (1 - momentum) * variance


@parallel_kernel()
def batch_norm_fprop(x, y, gamma, shift, mean, inv_std, beta):
    """y <- beta*y + gamma*xhat + shift, on (C, M) arrays."""
    C, M = x.shape
    beta = x.dtype.type(beta)
    for c in prange(C):
        into, out, centre, scale, offset = x[c], y[c], mean[c], gamma[c] * inv_std[c], shift[c]
        for m in range(M):
            value = (into[m] - centre) * scale + offset
            out[m] = value if beta == 0 else beta * out[m] + value


@parallel_kernel()
def batch_norm_bprop(x, dy, dx, gamma, mean, inv_std, dgamma, dshift, train, beta):
    """dx <- beta*dx + J^T dy, unless dx is None; add the gradients to dgamma and dshift."""
    C, M = x.shape
    real = x.dtype.type
    beta = real(beta)
    for c in prange(C):
        into, delta, centre, inverse = x[c], dy[c], mean[c], inv_std[c]
        sum_dy, moment = sum_and_moment(address(delta, 0), address(into, 0), M, np.float64(centre))
        sum_dy_xhat = moment * inverse
        dgamma[c] += sum_dy_xhat
        dshift[c] += sum_dy
        if dx is not None:
            out, scale = dx[c], gamma[c] * inverse
            mean_dy = real(sum_dy / M if train else 0.0)
            mean_dy_xhat = real(sum_dy_xhat / M if train else 0.0)
            for m in range(M):
                value = scale * (delta[m] - mean_dy - (into[m] - centre) * inverse * mean_dy_xhat)
                out[m] = value if beta == 0 else beta * out[m] + value
