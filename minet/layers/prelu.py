"""PReLU: a rectifier that learns the slope of its negative side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minet.core.layer import Array, Init, Layer, Param, Shape, State

BLOCKS = 32  # most blocks of threads per channel, one partial sum each


class PReLU(Layer):
    """``f(x) = x if x > 0 else a*x``, with a learned slope `a` for each channel.

    ``dx = dy * (1 if x > 0 else a)``: at ``x = 0`` it is ``a*dy``, as in PyTorch. ``da`` is the sum of
    ``dy*x`` over all ``x <= 0``. As in the paper, weight decay does not apply to `a`: it would turn PReLU
    into ReLU.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``; `a` is ``(C,)``, or ``(1,)`` if shared.

    Parameters
    ----------
    init : float, array_like or callable
        Initial value of `a`.
    shared : bool
        One slope for all channels.

    Raises
    ------
    LayerError
        If `init` holds no finite numbers, or `shared` is not a bool.

    References
    ----------
    He et al., "Delving deep into rectifiers", ICCV 2015, arXiv 1502.01852.
    """

    in_place = True

    def __init__(self, init: ArrayLike | Init = 0.25, shared: bool = False) -> None:
        self.init: Init | np.ndarray = init if callable(init) else np.asarray(init)
        if isinstance(self.init, np.ndarray) and not (
            self.init.dtype.kind in "fiu" and np.isfinite(self.init).all()
        ):
            raise self.error(f"init must be finite numbers or init(shape, rng), got {init!r}", "PReLU(0.25)")
        if not isinstance(shared, bool):
            raise self.error(f"shared must be True or False, got {shared!r}")
        self.shared = shared

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def params(self, in_shape: Shape) -> dict[str, Param]:
        return {"a": Param((1 if self.shared else in_shape[0],), self.init, decay=False)}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.prelu import prelu_fprop

        prelu_fprop(x.reshape(len(x), -1), y.reshape(len(x), -1), self.p.a, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.prelu import prelu_bprop

        rows = dy.reshape(len(x), -1)
        out = rows[:0] if dx is None else dx.reshape(rows.shape)
        prelu_bprop(x.reshape(rows.shape), None if dx is dy else rows, out, self.p.a, self.g.a, beta)

    # -- on a GPU ---------------------------------------------------------------------------------

    def constants(self) -> dict[str, Any]:
        return {"SLOPES": self.p.a.size, "LANES": 4}

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {
            "sums": State((in_shape[0], BLOCKS), per_sample=False, scratch=True),
            "came": State(self.params(in_shape)["a"].shape, "uint32", per_sample=False),  # blocks, by slope
        }

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        C, H, W, N = x.shape
        self.be.launch(self, "prelu_fprop", H * W * N, C, x=x, y=y, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        C, H, W, N = x.shape
        blocks = max(1, min(BLOCKS, H * W * N >> 12))
        grid, block = (blocks, min(C, 1 << 15), 1), (256, 1, 1)
        self.be.launch(self, "prelu_bprop", grid=grid, block=block, x=x, dy=dy, dx=dx, beta=beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: PReLU(), (3, 7, 6)
        yield lambda: PReLU(-0.5, shared=True), (3, 7, 6)
        yield lambda: PReLU([0.1, 1.5]), (2, 1, 1)
