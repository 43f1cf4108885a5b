"""Softmax: at each pixel, maps as probabilities that add up to 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from minet.core.layer import Array, Layer, Shape


class Softmax(Layer):
    """``y[c] = exp(x[c]) / sum over k of exp(x[k])`` at each pixel.

    ``dx[c] = y[c] * (dy[c] - sum over k of y[k]*dy[k])``. The largest x of the pixel is subtracted
    first, against overflow.

    For nets whose output is to be probabilities. To train one, leave it out: `SoftmaxCrossEntropy` takes the
    logits and has a softmax of its own, which loses no digits where a probability is close to 0.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``. A NaN or an infinite x makes all of its pixel NaN; minus infinity
    is a probability of 0.

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.
    """

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.softmax import softmax_fprop

        softmax_fprop(x.reshape(len(x), -1), y.reshape(len(x), -1), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.softmax import softmax_bprop

        if dx is not None:
            softmax_bprop(*(a.reshape(len(x), -1) for a in (x, dy, dx)), beta)

    # -- on a GPU: a thread goes through all maps of a pixel ----------------------------------------

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self.be.launch(self, "softmax_fprop", x[0].size, 1, x=x, y=y, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            self.be.launch(self, "softmax_bprop", x[0].size, 1, x=x, dy=dy, dx=dx, beta=beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: Softmax(), (5, 1, 1)
        yield lambda: Softmax(), (3, 4, 5)
        yield lambda: Softmax(), (1, 2, 3)
