"""A layer and a loss as a user writes them: NumPy, then Numba loops beside it, then a kernel."""

import numpy as np

from minet import Layer, Loss, MinetError, Param, update
from smooth_max_loops import smooth_max_bprop, smooth_max_fprop


class SmoothMax(Layer):
    """y = log(mean(exp(a*x))) / a over each map; a is learned, one for each channel."""

    def out_shape(self, in_shape):
        return in_shape[0], 1, 1

    def params(self, in_shape):
        return {"a": Param((in_shape[0],), init=2.0, decay=False, bounds=(0.1, None))}

    def fprop_numpy(self, x, y, beta, train):
        largest = x.max(axis=(1, 2), keepdims=True)
        mean = np.exp(self.a * (x - largest)).mean(axis=(1, 2), keepdims=True)
        update(y, largest + np.log(mean) / self.a, beta)

    def bprop_numpy(self, x, dy, dx, beta):
        apart = x - x.max(axis=(1, 2), keepdims=True)
        e = np.exp(self.a * apart)
        share = e / e.sum(axis=(1, 2), keepdims=True)
        away = (share * apart).sum(axis=(1, 2)) - np.log(e.mean(axis=(1, 2))) / self.p.a[:, None]
        self.g.a += (dy[:, 0, 0] * away).sum(axis=1) / self.p.a
        if dx is not None:
            update(dx, share * dy, beta)

    def fprop_cpu(self, x, y, beta, train):
        smooth_max_fprop(maps(x), y[:, 0, 0], self.p.a, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        smooth_max_bprop(maps(x), dy[:, 0, 0], maps(x[:0] if dx is None else dx), self.p.a, self.g.a, beta)

    @property
    def a(self):
        return self.p.a[:, None, None, None]

    @classmethod
    def examples(cls):
        yield cls, (3, 4, 5)


def maps(x):
    C, H, W, N = x.shape
    return x.reshape(C, H * W, N)


class LogCosh(Loss):
    """log(cosh(y - target)), averaged over the batch and over all elements of a sample."""

    def check(self, labels, out_shape, batch):
        if labels.shape != (*out_shape, batch):
            raise MinetError(f"targets must be {(*out_shape, batch)}, got {labels.shape}")

    def loss_cpu(self, y, labels, dy=None):
        apart = np.subtract(y, labels, dtype=float)
        if dy is not None:
            dy[...] = np.tanh(apart) / y.size
        return float(np.logaddexp(apart, -apart).mean() - np.log(2))
