"""Generalised-mean pooling: from the mean to the maximum of a window, by a learned power for each channel.

Radenović, Tolias and Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, arXiv
1711.02512. It pools the last maps of most nets for image retrieval; users have asked for it in Keras (issue
16702), Catalyst (1084) and MMPretrain (677). The loops are in gem_pool_loops.py, the CUDA kernels in
gem_pool.cu, and gem_digits.py trains a net with it. `minet check examples/gem_pool.py` proves all three.
"""

import numpy as np

from gem_pool_loops import gem_pool_bprop, gem_pool_fprop
from minet import Layer, Param, State, Window, update

LEAST = 1e-6  # smaller values, those below 0 among them, count as this
BLOCKS = 32  # blocks of threads for each channel, one partial sum each


class GemPool(Layer):
    """``y = (mean of a^k)^(1/k)`` over each window, with ``a = max(x, 1e-6)`` and a power k for each channel.

    k = 1 is the mean, and the larger k, the closer y is to the maximum. ``dx = dy * (a/y)^(k-1) / pixels``
    where x > 1e-6, and ``dk = sum of dy * y/k * (sum of a^k log a / sum of a^k - log y)``. Padding is in no
    window. Powers are taken of a / max(a), so that they neither overflow nor vanish.

    Shapes: ``(C, H, W)`` to ``(C, P, Q)``, without a window to ``(C, 1, 1)``. Learned: ``power``, ``(C,)``,
    at least 1.

    Parameters
    ----------
    window, stride, pad : int or (vertical, horizontal)
        Pixels. window None is the whole map, stride None is the window; pad is smaller than the window.
    power : float
        First value of k; 3 in the paper.

    Raises
    ------
    LayerError
        If power is below 1 or not finite, or a window's setting does not fit.
    """

    def __init__(self, window=None, stride=None, pad: int | tuple[int, int] = 0, power=3.0):
        self.window = None if window is None else Window.pool(self, window, stride, pad)
        if not 1 <= power < np.inf:
            raise self.error(f"power must be a number of at least 1, got {power!r}", "1 is the mean; try 3")
        self.power = power

    def window_on(self, in_shape):
        return self.window or Window(in_shape[1:3], in_shape[1:3], (0, 0))

    def out_shape(self, in_shape):
        return (in_shape[0], *self.window_on(in_shape).out_hw(self, in_shape))

    def params(self, in_shape):
        return {"power": Param((in_shape[0],), self.power, decay=False, bounds=(1.0, None))}

    def state(self, in_shape, out_shape):
        return {"mean": State(out_shape), "slope": State(out_shape)}  # y without beta's share, and dy/dk

    def fprop_cpu(self, x, y, beta, train):
        window = self.window_on(x.shape)
        gem_pool_fprop(x, y, self.s.mean, self.s.slope, self.p.power, *window[:3], LEAST, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        self.g.power += (dy * self.s.slope).sum(axis=(1, 2, 3))
        if dx is not None:
            gem_pool_bprop(x, dy, dx, self.s.mean, self.p.power, *self.window_on(x.shape)[:3], LEAST, beta)

    def fprop_numpy(self, x, y, beta, train):
        window, k = self.window_on(x.shape), self.p.power[:, None, None, None]
        inside = window.taps(window.padded(np.ones_like(x)))
        a = window.taps(window.padded(np.maximum(x, LEAST), LEAST))
        top = a.max(axis=(0, 1))
        log = np.log(a / top)
        powers = inside * np.exp(k * log)
        total = powers.sum(axis=(0, 1))
        level = np.log(total / inside.sum(axis=(0, 1))) / k
        self.s.mean[...] = top * np.exp(level)
        self.s.slope[...] = self.s.mean / k * ((powers * log).sum(axis=(0, 1)) / total - level)
        update(y, self.s.mean, beta)

    def bprop_numpy(self, x, dy, dx, beta):
        self.g.power += (dy * self.s.slope).sum(axis=(1, 2, 3))
        if dx is not None:
            window, k = self.window_on(x.shape), self.p.power[:, None, None, None]
            a = window.taps(window.padded(np.maximum(x, LEAST), LEAST))
            share = dy / window.taps(window.padded(np.ones_like(x))).sum(axis=(0, 1))
            padded = window.padded(np.zeros_like(x))
            taps = window.taps(padded)
            for tap in np.ndindex(window.size):
                taps[tap] += share * (a[tap] / self.s.mean) ** (k - 1)
            update(dx, window.inside(padded) * (x > LEAST), beta)

    def constants(self):
        return self.window_on(self.bound_shapes[0]).constants() | {"LEAST": LEAST}

    def state_gpu(self, in_shape, out_shape):
        return {"sums": State((in_shape[0], BLOCKS), per_sample=False, scratch=True)}

    def bprop_gpu(self, x, dy, dx, beta):
        grid, block = (BLOCKS, len(x), 1), (256, 1, 1)
        self.be.launch(self, "gem_pool_slopes", grid=grid, block=block, dy=dy)
        self.be.sum_rows(self.s.sums, self.g.power, beta=1.0)
        if dx is not None:
            C, H, W, N = x.shape
            self.be.launch(self, "gem_pool_bprop", W * N, C * H, x=x, dy=dy, dx=dx, beta=beta)

    @classmethod
    def examples(cls):
        yield lambda: cls(3, 2, 1), (3, 7, 6)
        yield lambda: cls((2, 4), (3, 1), (0, 2), power=1.5), (2, 8, 5)
        yield lambda: cls(power=20.0), (4, 3, 4)
