"""MyLayer: weighted means of windows."""

import numpy as np
from minet import Layer, Window, update

from my_layer_loops import my_layer_bprop, my_layer_fprop


class MyLayer(Layer):
    """The mean of each window, with weights that fall off from its middle.

    Padding counts as 0.

    Shapes: ``(C, H, W)`` to ``(C, P, Q)``.

    Parameters
    ----------
    window, stride, pad : int or (vertical, horizontal)
        Pixels. stride None is the window; pad is smaller than the window.
    """

    def __init__(self, window, stride=None, pad: int | tuple[int, int] = 0):
        self.window = Window.pool(self, window, stride, pad)
        self.weights = pyramid(*self.window.size)

    def out_shape(self, in_shape):
        return (in_shape[0], *self.window.out_hw(self, in_shape))

    def fprop_cpu(self, x, y, beta, train):
        _, stride, pad, _ = self.window
        my_layer_fprop(x, y, self.weights.astype(x.dtype), stride, pad, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            _, stride, pad, _ = self.window
            my_layer_bprop(dy, dx, self.weights.astype(x.dtype), stride, pad, beta)

    def fprop_numpy(self, x, y, beta, train):
        taps = self.window.taps(self.window.padded(x))
        weights = self.weights.astype(x.dtype)
        update(y, np.einsum("rs,rscpqn->cpqn", weights, taps), beta)

    def bprop_numpy(self, x, dy, dx, beta):
        if dx is not None:
            padded = self.window.padded(np.zeros_like(x))
            taps = self.window.taps(padded)
            for tap in np.ndindex(self.window.size):
                taps[tap] += self.weights[tap] * dy
            update(dx, self.window.inside(padded), beta)

    def constants(self):
        return self.window.constants()

    @classmethod
    def examples(cls):
        yield lambda: cls(2), (4, 6, 5)
        yield lambda: cls(3, stride=2, pad=1), (2, 7, 6)
        yield lambda: cls((4, 3), stride=(1, 2), pad=(2, 0)), (2, 5, 8)


def pyramid(R, S):
    """Weights of an R x S window, ``(R, S)``: largest in the middle, their sum is 1."""
    down, along = (1 + np.minimum(np.arange(n), n - 1 - np.arange(n)) for n in (R, S))
    return np.outer(down, along) / (down.sum() * along.sum())
