"""BatchNorm: each channel brought to mean 0 and variance 1, then a learned scale and shift."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minet.core.layer import Array, Layer, Param, Shape, State
from minet.core.node import LayerError
from minet.core.settings import is_real

# On a GPU, BLOCKS blocks sum all channels, each in shares of at least CHUNK elements, at most SHARES of them.
CHUNK, BLOCKS, SHARES, THREADS = 1 << 11, 512, 128, 256


class BatchNorm(Layer):
    """``y = gamma * (x - mean) / sqrt(var + eps) + shift`` for each channel.

    In training, mean and variance are those of the batch, over H, W and N; the variance is the biased one.
    In evaluation they are the running ones, which training updates, in Keras's convention:

        running <- momentum * running + (1 - momentum) * batch

    with the batch's unbiased variance, as in PyTorch (whose momentum is 1 minus this one). Statistics that
    are not finite are ignored. A channel with a single value has no variance: training on it is refused.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``; `gamma`, `shift`, `running_mean` and `running_var` are ``(C,)``.
    Weight decay applies to none of them.

    Parameters
    ----------
    momentum : float
        The share that running statistics keep at each step, in [0, 1).
    eps : float
        Added to the variance; above 0.

    Raises
    ------
    LayerError
        If a setting is out of its range, or in training if a channel has a single value.

    References
    ----------
    Ioffe & Szegedy, "Batch normalization", ICML 2015, arXiv 1502.03167.
    """

    renamed = {"beta": "shift"}  # the contract's beta means something else

    def __init__(self, momentum: float = 0.9, eps: float = 1e-5) -> None:
        if not is_real(momentum) or not 0 <= momentum < 1:
            raise self.error(
                f"momentum must be a number in [0, 1), got {momentum!r}", "0.9 here is PyTorch's momentum=0.1"
            )
        if not is_real(eps) or eps <= 0:
            raise self.error(f"eps must be a number above 0, got {eps!r}", "BatchNorm(eps=1e-5)")
        self.momentum, self.eps = float(momentum), float(eps)

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def params(self, in_shape: Shape) -> dict[str, Param]:
        one_each = in_shape[:1]
        return {"gamma": Param(one_each, 1.0, decay=False), "shift": Param(one_each, 0.0, decay=False)}

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        one_each = in_shape[:1]
        return {
            "mean": State(one_each, per_sample=False),
            "inv_std": State(one_each, per_sample=False),
            "running_mean": State(one_each, per_sample=False, persistent=True),
            "running_var": State(one_each, per_sample=False, persistent=True, init=1.0),
        }

    def _check_values(self, x: Array, train: bool) -> None:
        if train and x[0].size == 1:
            raise self._single_value()

    def _single_value(self) -> LayerError:
        return self.error(
            "a channel has a single value in training (1x1 maps, a batch of 1): its variance is 0",
            "train with a larger batch, or without BatchNorm here",
        )

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.batch_norm import batch_norm_fprop, batch_norm_statistics

        self._check_values(x, train)
        x, y, s = x.reshape(len(x), -1), y.reshape(len(x), -1), self.s
        if train:
            batch_norm_statistics(
                x, s.mean, s.inv_std, s.running_mean, s.running_var, self.momentum, self.eps
            )
        else:
            s.mean[...] = s.running_mean
            s.inv_std[...] = 1 / (s.running_var + self.eps) ** 0.5
        batch_norm_fprop(x, y, self.p.gamma, self.p.shift, s.mean, s.inv_std, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.batch_norm import batch_norm_bprop

        x, dy, dx = (a if a is None else a.reshape(len(x), -1) for a in (x, dy, dx))
        s, g = self.s, self.g
        batch_norm_bprop(x, dy, dx, self.p.gamma, s.mean, s.inv_std, g.gamma, g.shift, self.train, beta)

    # -- on a GPU ---------------------------------------------------------------------------------

    def constants(self) -> dict[str, Any]:
        return {"LANES": 4}

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        C = in_shape[0]
        return {
            "sums": State((3, C, SHARES), per_sample=False, scratch=True),
            "slopes": State((2, C), per_sample=False, scratch=True),
            "came": State((C,), "uint32", per_sample=False),  # blocks, by channel
        }

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self._check_values(x, train)
        if train:
            self._sum("statistics", x, momentum=self.momentum, eps=self.eps)
        self.be.launch(self, "batch_norm_fprop", x[0].size, len(x), x=x, y=y, eps=self.eps, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        self._sum("slopes", x, dy=dy)
        if dx is not None:
            self.be.launch(self, "batch_norm_bprop", x[0].size, len(x), x=x, dy=dy, dx=dx, beta=beta)

    def _sum(self, kernel: str, x: Array, **values: Any) -> None:
        """Launch a kernel that sums each channel, with a row of blocks for it."""
        size = x[0].size
        grid = max(1, min(SHARES, BLOCKS // len(x), size // CHUNK)), min(len(x), 1 << 15), 1
        block = min(THREADS, -(-size // 128) * 32), 1, 1  # in a small channel a thread takes four elements
        self.be.launch(self, f"batch_norm_{kernel}", grid=grid, block=block, x=x, **values)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: BatchNorm(), (3, 7, 6)
        yield lambda: BatchNorm(momentum=0, eps=0.1), (4, 2, 1)
