"""BatchNorm over the whole batch: each rank has the moments of its share, and all put them together.

    M = sum of m,  mean = sum of m*mean / M,  var = sum of (squares + m*(own mean - mean)^2) / M,
    dx = gamma*inv_std * (dy - sum(dy)/M - xhat * sum(dy*xhat)/M),

with m the values of a channel that a rank has, and sums over all ranks, in float64 and by rank: one exchange
in fprop and one in bprop. The parameters' gradients stay each rank's own: they are summed with all others. In
evaluation nothing changes.

Source: moments of parts put together from Chan, Golub, LeVeque, "Algorithms for computing the sample
variance", 1983.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minet.core.layer import Array, update
from minet.layers.batch_norm import BatchNorm

quiet = np.errstate(invalid="ignore")  # an infinite x gives NaN, which the loss shows


class RankBatchNorm(BatchNorm):
    """A BatchNorm in training by several ranks."""

    ranks: Any
    counts: np.ndarray  # values of a channel, by rank

    @classmethod
    def stem(cls) -> str:
        return BatchNorm.stem()

    def _check_values(self, x: Array, train: bool) -> None:
        """A rank may have a single value of a channel, if others have more."""

    @quiet
    def _put_together(self, count: int, mean: np.ndarray, squares: np.ndarray) -> None:
        """Set the layer's mean, inv_std and running statistics, from what each rank has of a channel."""
        every = self._told([count], mean, squares)
        self.counts = counts = every[:, :1]
        means, squares = np.split(every[:, 1:], 2, axis=1)
        M = counts.sum()
        if M == 1:
            raise self._single_value()
        mean = (counts * means).sum(axis=0) / M
        squares = (squares + counts * (means - mean) ** 2).sum(axis=0)
        s, be, unbiased = self.s, self.be, squares / (M - 1)
        fine = np.isfinite(unbiased)
        be.copy(mean, s.mean)
        be.copy(np.where(fine, 1 / np.sqrt(squares / M + self.eps), math.nan), s.inv_std)
        for running, now in ((s.running_mean, mean), (s.running_var, unbiased)):
            old = be.get(running)
            be.copy(np.where(fine, self.momentum * old + (1 - self.momentum) * now, old), running)

    def _means(self, own: np.ndarray) -> np.ndarray:
        """The mean over all values, of those over each rank's own."""
        return (self.counts * self._told(own)).sum(axis=0) / self.counts.sum()

    def _told(self, *rows: Any) -> np.ndarray:
        return self.ranks.numbers(np.concatenate(rows), f"the statistics of {self.where}")

    # -- on the cpu -------------------------------------------------------------------------------

    @quiet
    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        if not train:
            super().fprop_cpu(x, y, beta, train)
            return
        x, y, s = by_channel(x), by_channel(y), self.s
        mean = x.mean(axis=1, dtype=np.float64)
        self._put_together(x.shape[1], mean, ((x - mean[:, None]) ** 2).sum(axis=1))
        scale = (self.p.gamma * s.inv_std)[:, None]
        update(y, (x - s.mean[:, None]) * scale + self.p.shift[:, None], beta)

    @quiet
    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if not self.train:
            super().bprop_cpu(x, dy, dx, beta)
            return
        x, dy, s, g = by_channel(x), by_channel(dy), self.s, self.g
        xhat = (x - s.mean[:, None]) * s.inv_std[:, None]
        own = [a.sum(axis=1, dtype=np.float64) for a in (dy, dy * xhat)]
        g["shift"][...] += own[0]
        g["gamma"][...] += own[1]
        means = self._means(np.concatenate(own) / x.shape[1]).astype(x.dtype)
        if dx is not None:
            mean_dy, mean_dy_xhat = np.split(means[:, None], 2)
            scale = (self.p.gamma * s.inv_std)[:, None]
            update(by_channel(dx), scale * (dy - mean_dy - xhat * mean_dy_xhat), beta)

    # -- on a GPU ---------------------------------------------------------------------------------

    # Named here, as this class's fprop_cpu would stand before its base's kernels.
    fprop_gpu, bprop_gpu = BatchNorm.fprop_gpu, BatchNorm.bprop_gpu

    def _sum(self, kernel: str, x: Array, **values: Any) -> None:
        be, slopes, own = self.be, self.s.slopes, x[0].size
        if kernel == "statistics":
            # With a momentum of 0 the kernel leaves the share's own variance, where it is finite.
            be.fill(slopes, 0.0)
            scratch = {"running_mean": slopes[0], "running_var": slopes[1]}
            super()._sum(kernel, x, **values | scratch | {"momentum": 0.0})
            mean, inv_std, unbiased = (
                be.get(a).astype(np.float64) for a in (self.s.mean, self.s.inv_std, slopes[1])
            )
            squares = np.where(np.isfinite(inv_std), unbiased * max(own - 1, 1), math.nan)
            self._put_together(own, mean, squares)
            return
        super()._sum(kernel, x, **values)
        if self.train:
            be.copy(self._means(be.get(slopes).ravel()).reshape(slopes.shape), slopes)


def by_channel(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def synchronise(net: Any, ranks: Any) -> None:
    """Let all BatchNorms of a net take their statistics over the whole batch."""
    for layer in net.graph.walk():
        if type(layer) is not BatchNorm:
            continue
        layer.__class__ = RankBatchNorm
        vars(layer)["ranks"] = ranks
