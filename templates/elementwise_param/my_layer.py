"""MyLayer: a smooth step with a learned height for each channel."""

import numpy as np
from minet import Layer, Param, State, update

from my_layer_loops import my_layer_bprop, my_layer_fprop

BLOCKS = 32  # blocks of threads per channel, one partial sum each


class MyLayer(Layer):
    """``y = x / sqrt(1 + alpha * x**2)``, which levels off at ``1 / sqrt(alpha)``.

    ``dx = dy / sqrt(1 + alpha * x**2)**3``; dalpha sums ``-dy * y**3 / 2``.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``. Learned: ``alpha``, ``(C,)``, at least 0.
    """

    def out_shape(self, in_shape):
        return in_shape

    def params(self, in_shape):
        return {"alpha": Param((in_shape[0],), 1.0, decay=False, bounds=(0, None))}

    def fprop_cpu(self, x, y, beta, train):
        my_layer_fprop(x, y, self.p.alpha, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        out = x[:0] if dx is None else dx  # empty if no dx is wanted
        my_layer_bprop(x, dy, out, self.p.alpha, self.g.alpha, beta)

    def fprop_numpy(self, x, y, beta, train):
        update(y, x * self.root(x), beta)

    def bprop_numpy(self, x, dy, dx, beta):
        root = self.root(x)
        self.g.alpha -= (dy * (x * root) ** 3 / 2).sum(axis=(1, 2, 3))
        if dx is not None:
            update(dx, dy * root**3, beta)

    def root(self, x):
        return 1 / np.sqrt(1 + self.p.alpha[:, None, None, None] * x**2)

    def state_gpu(self, in_shape, out_shape):
        return {"sums": State((in_shape[0], BLOCKS), per_sample=False, scratch=True)}

    def bprop_gpu(self, x, dy, dx, beta):
        size = {"grid": (BLOCKS, len(x), 1), "block": (256, 1, 1)}
        self.be.launch(self, "my_layer_bprop", x=x, dy=dy, dx=dx, beta=beta, **size)
        self.be.sum_rows(self.s.sums, self.g.alpha, beta=1.0)

    @classmethod
    def examples(cls):
        yield cls, (2, 4, 5)
