"""LRN: local response normalisation across maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minet.core.layer import Array, Layer, Shape
from minet.core.settings import is_real, is_whole

# On a GPU: samples for each thread, maps that it reads together, and threads that keep a card busy. With
# too few columns, maps are cut into slabs, none shorter than a window.
LANES, TOGETHER, THREADS = 2, 4, 1 << 17


class LRN(Layer):
    """``y = x * s**-beta`` with ``s = k + alpha/size * (sum of x^2 over `size` neighbouring maps)``.

    The maps around map c are ``c - size//2 .. c + (size-1)//2``: if size is even, one more before c than
    after, as in PyTorch. Maps that do not exist count as 0. `alpha` is divided by `size`, as in Caffe and
    PyTorch; the paper does not.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``.

    Parameters
    ----------
    size : int
        Number of maps, at least 1.
    alpha : float
        At least 0.
    beta : float
        The exponent; 0.75 is by far the fastest.
    k : float
        Above 0.

    Raises
    ------
    LayerError
        If a setting is out of its range.

    References
    ----------
    Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", NIPS 2012, 3.3.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        if not is_whole(size) or size < 1:
            raise self.error(f"size must be a whole number of at least 1, got {size!r}", "LRN(size=5)")
        for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
            if not is_real(value):
                raise self.error(f"{name} must be a finite number, got {value!r}")
        if alpha < 0 or k <= 0:
            raise self.error(
                f"alpha must be at least 0 and k above 0, got alpha={alpha!r}, k={k!r}",
                "k + alpha/size * (sum of squares) must stay above 0: LRN takes a power of it",
            )
        self.size, self.alpha, self.beta, self.k = int(size), float(alpha), float(beta), float(k)

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.lrn import lrn_fprop

        x, y = x.reshape(len(x), -1), y.reshape(len(x), -1)
        lrn_fprop(x, y, self.size, self.alpha, self.beta, self.k, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.lrn import lrn_bprop

        if dx is not None:
            x, dy, dx = (a.reshape(len(a), -1) for a in (x, dy, dx))
            lrn_bprop(x, dy, dx, self.size, self.alpha, self.beta, self.k, beta)

    # -- on a GPU ---------------------------------------------------------------------------------

    def constants(self) -> dict[str, Any]:
        return {
            "SIZE": self.size,
            "THREE_QUARTERS": self.beta == 0.75,
            "TOGETHER": TOGETHER,
            "LANES": LANES,
        }

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self._launch("lrn_fprop", x, y=y, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            self._launch("lrn_bprop", x, dy=dy, dx=dx, beta=beta)

    def _launch(self, name: str, x: Array, **values: Any) -> None:
        columns = x[0].size
        slabs = max(1, min(LANES * THREADS // columns, len(x) // self.size))
        values |= {"alpha": self.alpha / self.size, "power": self.beta, "k": self.k, "slabs": slabs}
        self.be.launch(self, name, columns, slabs, x=x, **values)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: LRN(), (7, 3, 2)
        yield lambda: LRN(size=4, alpha=2.0, beta=0.75, k=0.5), (5, 4, 3)
        yield lambda: LRN(size=3, alpha=1, beta=0.6), (2, 3, 4)
        yield lambda: LRN(size=1, alpha=1, beta=1), (3, 7, 6)
