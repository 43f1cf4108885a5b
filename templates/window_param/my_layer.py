"""MyLayer: weighted sums of windows, with learned weights for each channel."""

import numpy as np
from minet import Layer, Param, Window, update

from my_layer_loops import my_layer_bprop, my_layer_dalpha, my_layer_fprop


class MyLayer(Layer):
    """The sum of ``alpha[c,r,s] * x[c,h,w]`` over each window; padding counts as 0.

    At first it is a mean, with weights that fall off from the middle.

    Shapes: ``(C, H, W)`` to ``(C, P, Q)``. Learned: ``alpha``, ``(C, R, S)``.

    Parameters
    ----------
    window, stride, pad : int or (vertical, horizontal)
        Pixels. stride None is the window; pad is smaller than the window.
    """

    def __init__(self, window, stride=None, pad: int | tuple[int, int] = 0):
        self.window = Window.pool(self, window, stride, pad)

    def out_shape(self, in_shape):
        return (in_shape[0], *self.window.out_hw(self, in_shape))

    def params(self, in_shape):
        R, S = self.window.size
        return {"alpha": Param((in_shape[0], R, S), pyramid(R, S))}

    def fprop_cpu(self, x, y, beta, train):
        _, stride, pad, _ = self.window
        my_layer_fprop(x, y, self.p.alpha, stride, pad, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        _, stride, pad, _ = self.window
        my_layer_dalpha(x, dy, self.g.alpha, stride, pad)
        if dx is not None:
            my_layer_bprop(dy, dx, self.p.alpha, stride, pad, beta)

    def fprop_numpy(self, x, y, beta, train):
        taps = self.window.taps(self.window.padded(x))
        update(y, np.einsum("crs,rscpqn->cpqn", self.p.alpha, taps), beta)

    def bprop_numpy(self, x, dy, dx, beta):
        taps = self.window.taps(self.window.padded(x))
        self.g.alpha += np.einsum("rscpqn,cpqn->crs", taps, dy)
        if dx is not None:
            padded = self.window.padded(np.zeros_like(x))
            taps = self.window.taps(padded)
            for r, s in np.ndindex(self.window.size):
                taps[r, s] += self.p.alpha[:, r, s, None, None, None] * dy
            update(dx, self.window.inside(padded), beta)

    def constants(self):
        return self.window.constants()

    def bprop_gpu(self, x, dy, dx, beta):
        grid, block = (1, min(self.p.alpha.size, 1 << 15), 1), (256, 1, 1)
        self.be.launch(self, "my_layer_dalpha", grid=grid, block=block, x=x, dy=dy)
        if dx is not None:
            C, H, W, N = x.shape
            size = W * N, C * H
            self.be.launch(self, "my_layer_bprop", *size, dy=dy, dx=dx, beta=beta)

    @classmethod
    def examples(cls):
        yield lambda: cls(2), (4, 6, 5)
        yield lambda: cls(3, stride=2, pad=1), (2, 7, 6)
        yield lambda: cls((4, 3), stride=(1, 2), pad=(2, 0)), (2, 5, 8)


def pyramid(R, S):
    """Weights of an R x S window, ``(R, S)``: largest in the middle, their sum is 1."""
    down, along = (1 + np.minimum(np.arange(n), n - 1 - np.arange(n)) for n in (R, S))
    return np.outer(down, along) / (down.sum() * along.sum())
