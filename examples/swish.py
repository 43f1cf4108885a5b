"""A layer of your own in NumPy: f(x) = x * sigmoid(b * x) with a learnable b for each channel.

Ramachandran, Zoph, Le: "Searching for activation functions", 2017, arXiv 1710.05941.
Test it against the contract with `minet check examples/swish.py`, and the CUDA kernels in swish.cu with
`minet check examples/swish.py --backend emu`.
"""

import numpy as np

from minet import Layer, Param, State, update

BLOCKS = 32  # blocks of threads per channel, one partial sum each


class Swish(Layer):
    def out_shape(self, in_shape):
        return in_shape

    def params(self, in_shape):
        return {"b": Param((in_shape[0],), init=1.0, decay=False)}

    def fprop_cpu(self, x, y, beta, train):
        update(y, x * self.sigmoid(x), beta)

    def bprop_cpu(self, x, dy, dx, beta):
        s = self.sigmoid(x)
        slope = x * s * (1 - s)  # of the sigmoid's argument b * x
        self.g.b += (dy * x * slope).sum(axis=(1, 2, 3))
        if dx is not None:
            update(dx, dy * (s + self.b * slope), beta)

    def state_gpu(self, in_shape, out_shape):
        return {"sums": State((in_shape[0], BLOCKS), per_sample=False, scratch=True)}

    def bprop_gpu(self, x, dy, dx, beta):  # two launches; fprop needs no method for its one
        grid, block = (BLOCKS, len(x), 1), (256, 1, 1)
        self.be.launch(self, "swish_bprop", grid=grid, block=block, x=x, dy=dy, dx=dx, beta=beta)
        self.be.sum_rows(self.s.sums, self.g.b, beta=1.0)

    def sigmoid(self, x):
        return 0.5 + 0.5 * np.tanh(0.5 * self.b * x)

    @property
    def b(self):
        return self.p.b[:, None, None, None]

    @classmethod
    def examples(cls):
        yield cls, (3, 4, 5)
