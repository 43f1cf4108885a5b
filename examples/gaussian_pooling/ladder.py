"""How GaussianPool's kernels came about: seven layers, each a step faster than the one before.

docs/gaussian-pooling.md climbs them. They compute what `minet.layers.GaussianPool` does, by kernels of
their own in the .cu files here. A rung is a subclass of the one below and overrides only what it changes.
On the cpu all of them run GaussianPool's loops, which thus are the reference for
`minet check examples/gaussian_pooling/ladder.py:MarchPool --backend emu`.
"""

from minet import State
from minet.layers import GaussianPool

THREADS = 256  # per block


class NaivePool(GaussianPool):
    """Rung 1: one thread for each output, the whole window. Its mean and sigma stay as they are.

    Shapes: ``(C, H, W)`` to ``(kernels*C, P, Q)``. Settings as GaussianPool's; windows touch or overlap, and
    only from rung 6 on a layer has several kernels.

    Raises
    ------
    LayerError
        If the stride exceeds the window, or where GaussianPool raises it.
    """

    edge, learns = "zero", False

    def __init__(self, window, stride=None, pad: int | tuple[int, int] = 0, mean=None, sigma=None):
        self._settings(window, stride, pad, 1, mean, sigma)

    def _settings(self, window, stride, pad, kernels, mean, sigma):
        GaussianPool.__init__(
            self, window, stride, pad, kernels, mean, sigma, learn=self.learns, edge=type(self).edge
        )
        (R, S), (SY, SX) = self.window.size, self.window.stride
        if SY > R or SX > S:
            hint = "GaussianPool itself takes any stride"
            raise self.error(f"stride {SY}x{SX} exceeds the window {R}x{S}", hint)

    def constants(self):
        return self.window.constants() | {"KERNELS": self.kernels}

    def state_gpu(self, in_shape, out_shape):
        return {}

    def launch(self, name, width, height, depth, **values):
        """A thread for each of `width` numbers in a row, `height` rows, `depth` channels or kernels."""
        threads = min(THREADS, -(-width // 32) * 32)
        grid = -(-width // threads), height, depth
        self.be.launch(self, name, grid=grid, block=(threads, 1, 1), **values)

    def fprop_gpu(self, x, y, beta, train):
        (C, _, _, N), (P, Q) = x.shape, y.shape[1:3]
        self.launch("naive_pool_fprop", Q * N, P, C, x=x, y=y, beta=beta)

    def bprop_gpu(self, x, dy, dx, beta):
        if dx is None:
            return
        (C, H, W, N), (P, Q) = x.shape, dy.shape[1:3]
        self.launch("naive_pool_keep", W * N, H, C, x=x, dx=dx, beta=beta)
        self.launch("naive_pool_scatter", Q * N, P, C, dy=dy, dx=dx)

    @classmethod
    def examples(cls):
        yield lambda: cls(3, 2, 1, mean=0.3), (3, 7, 6)
        yield lambda: cls((4, 3), stride=(1, 3), pad=(3, 1), sigma=(0.8, 2)), (2, 7, 9)
        yield lambda: cls(2, mean=(0.4, -0.7)), (1, 5, 4)


class SeparablePool(NaivePool):
    """Rung 2: across, then down. bprop is that of rung 1."""

    def state_gpu(self, in_shape, out_shape):
        (C, H, _), Q = in_shape, out_shape[2]
        return {
            "t": State((C, H, Q), scratch=True),
            "weights": State((C, sum(self.window.size)), per_sample=False),
        }

    def fprop_gpu(self, x, y, beta, train):
        (C, H, _, N), (P, Q) = x.shape, y.shape[1:3]
        self.launch("separable_pool_weights", sum(self.window.size), 1, C, x=x)
        self.launch("separable_pool_across", Q * N, H, C, x=x, t=self.s.t)
        self.launch("separable_pool_down", Q * N, P, C, x=x, t=self.s.t, y=y, beta=beta)


class ExactPool(SeparablePool):
    """Rung 3: edges are exact, mean and sigma are learned."""

    edge, learns = "exact", True

    def state_gpu(self, in_shape, out_shape):
        W, (_, P, Q), sets = in_shape[2], out_shape, in_shape[0] * self.kernels
        # A block leaves four sums; N samples take at most N times the blocks of one.
        blocks = -(-max(W, Q) // 32) * P
        return super().state_gpu(in_shape, out_shape) | {
            "rows": State((sets, P, 3 * self.window.size[0]), per_sample=False),
            "cols": State((sets, Q, 3 * self.window.size[1]), per_sample=False),
            "parts": State((4 * sets * blocks,), scratch=True),
        }

    def weigh(self, x, P, Q):
        self.launch("exact_pool_weights", P + Q, 1, self.kernels * len(x), x=x)

    def fprop_gpu(self, x, y, beta, train):
        (C, H, _, N), (P, Q) = x.shape, y.shape[1:3]
        self.weigh(x, P, Q)
        self.launch("exact_pool_across", Q * N, H, C, x=x, t=self.s.t)
        self.launch("exact_pool_down", Q * N, P, C, x=x, t=self.s.t, y=y, beta=beta)

    def bprop_gpu(self, x, dy, dx, beta):
        (C, H, W, N), (P, Q) = x.shape, dy.shape[1:3]
        self.weigh(x, P, Q)
        if dx is not None:
            self.launch("naive_pool_keep", W * N, H, C, x=x, dx=dx, beta=beta)
        self.slopes("exact_pool_bprop", Q * N, P, C, x=x, dy=dy, dx=dx)

    def slopes(self, name, width, height, depth, **values):
        """Launch a kernel that leaves the blocks' shares of the four slopes in `parts`, and add them up."""
        blocks = -(-width // min(THREADS, -(-width // 32) * 32)) * height
        parts = self.s.parts.reshape(-1)[: 2 * blocks * self.p.mean.size]
        self.launch(name, width, height, depth, parts=parts, **values)
        parts = parts.reshape(2, self.p.mean.size, blocks)
        self.be.sum_rows(parts[0], self.g.mean.reshape(-1), beta=1.0)
        self.be.sum_rows(parts[1], self.g.log_sigma.reshape(-1), beta=1.0)


class GatherPool(ExactPool):
    """Rung 4: each dx has one owner, which looks up the outputs that hold it."""

    def state_gpu(self, in_shape, out_shape):
        (C, _, W), P = in_shape, out_shape[1]
        return super().state_gpu(in_shape, out_shape) | {"e": State((3 * C, P, W), scratch=True)}

    def bprop_gpu(self, x, dy, dx, beta):
        (C, H, W, N), (P, Q), e = x.shape, dy.shape[1:3], self.s.e
        self.weigh(x, P, Q)
        self.launch("gather_pool_across", W * N, P, C, dy=dy, e=e)
        if dx is not None:
            self.launch("gather_pool_down", W * N, H, C, x=x, e=e[:C], dx=dx, beta=beta)
        self.slopes("gather_pool_slopes", W * N, P, C, x=x, e=e)


class MarchPool(ExactPool):
    """Rung 5: one pass forward and one back; a thread walks down a column."""

    def state_gpu(self, in_shape, out_shape):
        state = super().state_gpu(in_shape, out_shape)
        return {name: state[name] for name in ("rows", "cols", "parts")}

    def fprop_gpu(self, x, y, beta, train):
        (C, _, _, N), (P, Q) = x.shape, y.shape[1:3]
        self.weigh(x, P, Q)
        self.launch(f"{self.stem()}_fprop", Q * N // self.lanes(x, y), 1, C, x=x, y=y, beta=beta)

    def bprop_gpu(self, x, dy, dx, beta):
        (C, _, W, N), (P, Q) = x.shape, dy.shape[1:3]
        self.weigh(x, P, Q)
        width = W * N // self.lanes(x, dy, dx)
        self.slopes(f"{self.stem()}_bprop", width, 1, C, x=x, dy=dy, dx=dx, beta=beta)

    def lanes(self, *images):
        return 1


class ManyPool(MarchPool):
    """Rung 6: several kernels in one pass."""

    fprop_gpu, bprop_gpu = MarchPool.fprop_gpu, MarchPool.bprop_gpu  # with kernels named after this class

    def __init__(self, window, stride=None, pad=0, kernels=1, mean=None, sigma=None):
        self._settings(window, stride, pad, kernels, mean, sigma)

    @classmethod
    def examples(cls):
        yield from super().examples()
        yield lambda: cls(3, 1, 2, kernels=3), (2, 5, 6)


class LanesPool(ManyPool):
    """Rung 7: two samples for each thread."""

    fprop_gpu, bprop_gpu = MarchPool.fprop_gpu, MarchPool.bprop_gpu

    def constants(self):
        return super().constants() | {"LANES": 2}

    def lanes(self, *images):
        return self.be.lanes(2, *images)


RUNGS = (NaivePool, SeparablePool, ExactPool, GatherPool, MarchPool, ManyPool, LanesPool)
