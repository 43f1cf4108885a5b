"""StochasticPool: one value of each window, drawn with a probability proportional to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minet.core.layer import Array, Layer, Shape, State
from minet.core.window import Window


class StochasticPool(Layer):
    """In training ``y = a[l]``, l drawn with probability ``a[l] / sum a``; else ``y = sum a^2 / sum a``.

    a is ``max(x, 0)`` over the window: the layer belongs after a ReLU, and a negative value has weight 0. The
    delta goes to the drawn position alone. In evaluation, y is the mean over all draws, and bprop is the
    derivative of that, ``dy * (2 a[l] - y) / sum a``. Padding is never drawn. The draw is made by counter
    (`minet.rng`): a new one at each training step, and the same one on every backend, with any number of
    threads, for the same seed, path and step. Parts of a batch (`minet.rng.Clock`) draw what the whole batch
    would.

    A window without positive values gives 0 and passes no delta. If the sum is not finite (a NaN, +infinity,
    an overflow), y is NaN, so that the training loop notices.

    Shapes: ``(C, H, W)`` to ``(C, P, Q)``, ``P = (H + 2*pad - dilation*(window - 1) - 1) // stride + 1``, Q
    likewise. State ``picked``, ``(C, P, Q, N)``: the drawn position r*S + s in its window, or R*S for none;
    uint8 if R*S + 1 fits.

    Parameters
    ----------
    window : int or (int, int)
        Pixels, vertical and horizontal.
    stride : int or (int, int), optional
        Pixels from window to window; None is the window.
    pad : int, (int, int), ((top, bottom), (left, right)) or "same"
        Pixels on each side; less than the window.
    dilation : int or (int, int)
        Pixels from one tap of the window to the next.
    ceil : bool
        Whether a last window may hang over the end, so that P and Q are rounded up (PyTorch's rule: not if it
        would begin behind the image).

    Raises
    ------
    LayerError
        If a setting is not whole or out of its range, or the window does not fit the input.

    References
    ----------
    Zeiler & Fergus, "Stochastic pooling for regularization of deep convolutional neural networks", ICLR
    2013, arXiv 1301.3557.
    """

    def __init__(
        self, window: Any, stride: Any = None, pad: Any = 0, dilation: Any = 1, ceil: bool = False
    ) -> None:
        self.window = Window.pool(self, window, stride, pad, dilation, ceil)

    def out_shape(self, in_shape: Shape) -> Shape:
        return (in_shape[0], *self.window.out_hw(self, in_shape))

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"picked": State(out_shape, self.window.tap_dtype)}

    def constants(self) -> dict[str, Any]:
        return self.window.constants() | {"LANES": self.window.lanes}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops import stochastic_pool as loops

        if train:
            draw = self.key, int(self.clock.step), self.clock.part and self.clock.samples(x.shape[-1])
            loops.stochastic_pool_fprop(x, y, self.s.picked, *self.window, beta, *draw)
        else:
            loops.stochastic_pool_mean_fprop(x, y, *self.window, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops import stochastic_pool as loops

        if dx is None:
            return
        if self.train:
            loops.stochastic_pool_bprop(dy, dx, self.s.picked, *self.window, beta)
        else:
            loops.stochastic_pool_mean_bprop(x, dy, dx, *self.window, beta)

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        name = "stochastic_pool_fprop" if train else "stochastic_pool_mean_fprop"
        size, rows = y.shape[2] * y.shape[3], y.shape[0] * y.shape[1]
        self.be.launch(self, name, size, rows, x=x, y=y, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is None:
            return
        (C, H, W, N), across = x.shape, self.window.beginning(x.shape[2])
        if self.train:
            values = {"across": across, "dy": dy, "dx": dx, "beta": beta}
            self.be.launch(self, "stochastic_pool_bprop", across * N, C * H, **values)
        else:
            name = "stochastic_pool_mean_bprop"
            # The launch divides by LANES, but this kernel takes a thread for each element.
            self.be.launch(self, name, self.window.lanes * W * N, C * H, x=x, dy=dy, dx=dx, beta=beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: StochasticPool(2), (3, 7, 6)
        yield lambda: StochasticPool(3, stride=2, pad=1), (3, 7, 6)
        yield lambda: StochasticPool((4, 2), stride=(1, 3), pad=(2, 1)), (2, 5, 8)
        yield lambda: StochasticPool((17, 18), stride=1, pad=(1, 0)), (1, 16, 19)
        yield (
            lambda: StochasticPool((3, 2), stride=(1, 3), pad=((1, 2), (0, 1)), dilation=(2, 3), ceil=True),
            (2, 7, 9),
        )
        yield lambda: StochasticPool(3, stride=2, ceil=True), (2, 6, 8)
        yield lambda: StochasticPool(2, stride=1, pad="same", dilation=3), (1, 5, 6)
