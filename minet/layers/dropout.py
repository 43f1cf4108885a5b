"""Dropout: noise against overfitting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minet.core.layer import Array, Layer, Shape, State
from minet.core.settings import is_real


class Dropout(Layer):
    """In training each element is 0 with probability `rate`, else ``x / (1 - rate)``; in evaluation y is x.

    ``dx = dy * mask / (1 - rate)``. The mask is drawn by counter (`minet.rng`): a new one at each training
    step, and the same one on every backend for the same seed, path and step. Parts of a batch
    (`minet.rng.Clock`) draw what the whole batch would.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``.

    Parameters
    ----------
    rate : float
        Probability of dropping an element, in [0, 1); rounded down to a multiple of 2^-32.

    Raises
    ------
    LayerError
        If `rate` is not a number in [0, 1).

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.
    """

    in_place = True

    def __init__(self, rate: float) -> None:
        if not is_real(rate) or not 0 <= rate < 1:
            raise self.error(
                f"rate must be a number in [0, 1), got {rate!r}", "the probability of dropping: Dropout(0.5)"
            )
        self.rate = float(rate)
        self.threshold = int(self.rate * 2**32)  # for 32-bit words; rounded down, it always fits one
        self.scale = 1 / (1 - self.rate)

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"mask": State(in_shape, "uint8")}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.dropout import dropout_fprop

        if train:
            mask, step, N = self.s.mask.reshape(-1), int(self.clock.step), x.shape[-1]
            part = self.clock.part and (N, *self.clock.samples(N))
            draw = *self.key, step, self.threshold
            dropout_fprop(x.reshape(-1), y.reshape(-1), mask, *draw, self.scale, beta, part)
        else:
            self.be.axpby(1.0, x, beta, y)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.dropout import dropout_bprop

        if dx is None:
            return
        if self.train:
            dy = None if dx is dy else dy.reshape(-1)
            dropout_bprop(dy, dx.reshape(-1), self.s.mask.reshape(-1), self.scale, beta)
        else:
            self.be.axpby(1.0, dy, beta, dx)

    # -- on a GPU ---------------------------------------------------------------------------------

    def constants(self) -> dict[str, Any]:
        return {"LANES": 4}

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        if train:
            values = {"threshold": self.threshold, "scale": self.scale, "beta": beta}
            self.be.launch(self, "dropout_fprop", x.size, x=x, y=y, **values)
        else:
            self.be.axpby(1.0, x, beta, y)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is None:
            return
        if self.train:
            self.be.launch(self, "dropout_bprop", dx.size, dy=dy, dx=dx, scale=self.scale, beta=beta)
        else:
            self.be.axpby(1.0, dy, beta, dx)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: Dropout(0.5), (3, 7, 6)
        yield lambda: Dropout(0.1), (5, 1, 1)
        yield lambda: Dropout(0), (2, 3, 4)
