"""Smooth maxima of windows: log-sum-exp pooling with a learned sharpness for each channel."""

import numpy as np

from minet import Layer, Param, State, Window, update

OUTSIDE = -1e30  # what padding holds: far below any pixel


class SmoothMax(Layer):
    """``y = log(mean of exp(a * x)) / a`` over each window, where a is the sharpness.

    The larger a, the nearer to the maximum; the smaller, to the mean. With ``w = exp(a * x)`` divided by its
    sum over the window, ``dx = dy * w``, and da sums ``dy * (sum of w * x - y) / a``.

    Shapes: ``(C, H, W)`` to ``(C, P, Q)``. Learned: ``a``, ``(C,)``, at least 0.1.

    Parameters
    ----------
    window, stride, pad : int or (vertical, horizontal)
        Pixels. stride None is the window; pad is smaller than the window. Padding is in no window.
    sharpness : float
        The first value of a.
    """

    def __init__(self, window, stride=None, pad: int | tuple[int, int] = 0, sharpness=4.0):
        self.window = Window.pool(self, window, stride, pad)
        self.sharpness = sharpness

    def out_shape(self, in_shape):
        return (in_shape[0], *self.window.out_hw(self, in_shape))

    def params(self, in_shape):
        return {"a": Param((in_shape[0],), self.sharpness, decay=False, bounds=(0.1, None))}

    def fprop_numpy(self, x, y, beta, train):
        top, _, powers = self.powers(x)
        update(y, top + np.log(powers.sum(axis=(0, 1))) / self.a, beta)

    def bprop_numpy(self, x, dy, dx, beta):
        _, below, powers = self.powers(x)
        total = powers.sum(axis=(0, 1))
        weights = powers / total
        slope = ((weights * below).sum(axis=(0, 1)) - np.log(total) / self.a) / self.a
        self.g.a += (dy * slope).sum(axis=(1, 2, 3))
        if dx is not None:
            padded = self.window.padded(np.zeros_like(x))
            taps = self.window.taps(padded)
            for tap in np.ndindex(self.window.size):
                taps[tap] += weights[tap] * dy
            update(dx, self.window.inside(padded), beta)

    def powers(self, x):
        """The largest value of each window; for each tap x - largest, and exp(a * that) / pixels."""
        taps = self.window.taps(self.window.padded(x, OUTSIDE))
        top, pixels = taps.max(axis=(0, 1)), (taps != OUTSIDE).sum(axis=(0, 1))
        below = taps - top
        return top, below, np.exp(self.a * below) / pixels

    @property
    def a(self):
        return self.p.a[:, None, None, None]

    @classmethod
    def examples(cls):
        yield lambda: cls(2), (3, 6, 5)
        yield lambda: cls(3, stride=2, pad=1), (2, 7, 6)
        yield lambda: cls((4, 3), stride=(1, 2), pad=(2, 0)), (2, 5, 8)

    def state(self, in_shape, out_shape):
        return {"level": State(out_shape), "slope": State(out_shape)}  # see smooth_max_loops.py

    def fprop_cpu(self, x, y, beta, train):
        from smooth_max_loops import smooth_max_fprop

        smooth_max_fprop(x, y, self.s.level, self.s.slope, self.p.a, *self.window[:3], beta)

    def bprop_cpu(self, x, dy, dx, beta):
        from smooth_max_loops import smooth_max_bprop

        self.g.a += (dy * self.s.slope).sum(axis=(1, 2, 3))
        if dx is not None:
            smooth_max_bprop(x, dy, dx, self.s.level, self.p.a, *self.window[:3], beta)

    blocks = 32  # of threads for each channel, one partial sum each

    def constants(self):
        return self.window.constants()

    def state_gpu(self, in_shape, out_shape):
        return {"sums": State((in_shape[0], self.blocks), per_sample=False, scratch=True)}

    def bprop_gpu(self, x, dy, dx, beta):
        C, H, W, N = x.shape
        if dx is not None:
            self.be.launch(self, "smooth_max_bprop", W * N, C * H, x=x, dy=dy, dx=dx, beta=beta)
        self.be.launch(self, "smooth_max_da", grid=(self.blocks, C, 1), block=(256, 1, 1), dy=dy)
        self.be.sum_rows(self.s.sums, self.g.a, beta=1.0)

    def in_torch(self, x, a):
        import torch

        (R, S), (SY, SX), (PY, PX) = self.window[:3]
        x = torch.nn.functional.pad(x, (PX, PX, PY, PY), value=OUTSIDE).contiguous()
        taps, a = x.unfold(2, R, SY).unfold(3, S, SX), a[:, None, None]
        pixels = (taps != OUTSIDE).sum((-2, -1)).to(x.dtype)
        return (torch.logsumexp(a[..., None, None] * taps, (-2, -1)) - pixels.log()) / a
