"""BatchNorm over the whole batch: each rank sums its share, and all add up.

    mean = sum of x / M,  var = sum of (x - mean)^2 / M,  M over all ranks;
    dx = gamma*inv_std * (dy - sum(dy)/M - xhat * sum(dy*xhat)/M), with the sums over all ranks,

two sums in fprop, so that nothing cancels, and one in bprop. The parameters' gradients stay each rank's own:
they are summed with all others. In evaluation nothing changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.core.layer import Array, update
from minet.layers.batch_norm import BatchNorm


class RankBatchNorm(BatchNorm):
    """A BatchNorm in training by several ranks."""

    ranks: Any
    count: np.ndarray  # values of a channel, over all ranks

    @classmethod
    def stem(cls) -> str:
        return BatchNorm.stem()

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        if not train:
            super().fprop_cpu(x, y, beta, train)
            return
        x, y, s = by_channel(x), by_channel(y), self.s
        counts = np.full(len(x), x.shape[1], np.float64)
        total, self.count = self._sums(x.sum(axis=1, dtype=np.float64), counts)
        if self.count[0] == 1:
            self._check_values(x[:1, :1], train)
        mean = total / self.count
        (squares,) = self._sums(((x - mean[:, None]) ** 2).sum(axis=1, dtype=np.float64))
        s.mean[...], s.inv_std[...] = mean, 1 / np.sqrt(squares / self.count + self.eps)
        variance = squares / np.maximum(self.count - 1, 1)
        fine, keep = np.isfinite(variance), self.momentum
        for running, now in ((s.running_mean, mean), (s.running_var, variance)):
            running[fine] = keep * running[fine] + (1 - keep) * now[fine]
        scale = (self.p.gamma * s.inv_std)[:, None]
        update(y, (x - s.mean[:, None]) * scale + self.p.shift[:, None], beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if not self.train:
            super().bprop_cpu(x, dy, dx, beta)
            return
        x, dy, s, g = by_channel(x), by_channel(dy), self.s, self.g
        xhat = (x - s.mean[:, None]) * s.inv_std[:, None]
        own = [a.sum(axis=1, dtype=np.float64) for a in (dy, dy * xhat)]
        g["shift"][...] += own[0]
        g["gamma"][...] += own[1]
        mean_dy, mean_dy_xhat = ((a / self.count).astype(x.dtype)[:, None] for a in self._sums(*own))
        if dx is not None:
            scale = (self.p.gamma * s.inv_std)[:, None]
            update(by_channel(dx), scale * (dy - mean_dy - xhat * mean_dy_xhat), beta)

    def _sums(self, *rows: np.ndarray) -> list[np.ndarray]:
        """Sums over all ranks of some float64 numbers per channel, added by rank."""
        every = self.ranks.numbers(np.concatenate(rows), f"the statistics of {self.where}")
        return np.split(every.sum(axis=0), len(rows))


def by_channel(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def synchronise(net: Any, ranks: Any) -> None:
    """Let all BatchNorms of a net take their statistics over the whole batch."""
    for layer in net.graph.walk():
        if type(layer) is not BatchNorm:
            continue
        if net.be.name != "cpu":
            raise layer.error(
                f"BatchNorm over all ranks computes on the cpu, not on {net.be.name}",
                "--backend cpu, or leave out --sync-batch-norm",
            )
        layer.__class__ = RankBatchNorm
        vars(layer)["ranks"] = ranks
