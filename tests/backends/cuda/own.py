"""A user's own layers, with kernels next to them, for tests/backends/test_gpu.py."""

from __future__ import annotations

import numpy as np

from minet import Layer, Param, State, update


class Plain(Layer):
    """``y = a*x`` without a kernel; it counts its steps and keeps its last x."""

    def out_shape(self, in_shape):
        return in_shape

    def params(self, in_shape):
        return {"a": Param((in_shape[0], 1, 1, 1), 1.5)}

    def state(self, in_shape, out_shape):
        return {
            "last": State(in_shape),
            "seen": State((1,), per_sample=False, persistent=True),
        }

    def on_bind(self):
        self.last = self.s.last  # a view that must follow the arrays

    def fprop_cpu(self, x, y, beta, train):
        self.last[...] = x
        self.s.seen += 1
        update(y, self.p.a * x, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        self.g.a += (dy * self.last).sum(axis=(1, 2, 3), keepdims=True)
        if dx is not None:
            update(dx, self.p.a * dy, beta)

    @classmethod
    def examples(cls):
        yield cls, (2, 3, 4)


class Facts(Layer):
    """A layer whose kernels record their arguments."""

    def __init__(self, factor):
        self.factor = factor

    def out_shape(self, in_shape):
        return 1, in_shape[1], in_shape[2] // 2

    def params(self, in_shape):
        return {"a": Param((2,), 0.25)}

    def state(self, in_shape, out_shape):
        return {
            "facts": State((13,), per_sample=False),
            "words": State((2,), "uint32", per_sample=False),
        }

    def constants(self):
        return {"FACTOR": self.factor}


class Doubled(Layer):
    """``y = 2x``, on the cpu and by a kernel."""

    def out_shape(self, in_shape):
        return in_shape

    def fprop_cpu(self, x, y, beta, train):
        update(y, 2 * x, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            update(dx, 2 * dy, beta)


class StillDoubled(Doubled):
    """Overrides nothing."""


class Tripled(Doubled):
    """``y = 3x`` on the cpu only, without a kernel for it."""

    def fprop_cpu(self, x, y, beta, train):
        update(y, 3 * x, beta)


class ByMethod(Tripled):
    """Launches the kernel of its base's base itself, on two blocks."""

    def fprop_gpu(self, x, y, beta, train):
        self.be.launch(self, "doubled_fprop", x.size, grid=(2, 1, 1), block=(64, 1, 1), x=x, y=y, beta=beta)


class WrongType(Doubled):
    """Its kernel declares x as integers."""


class WrongState(Doubled):
    """Its kernel declares integer state as floats."""

    def state(self, in_shape, out_shape):
        return {"row": State(out_shape, np.int32)}


class NotThere(Doubled):
    """Its kernel asks for a name that does not exist."""


class ArrayAsNumber(Doubled):
    """Its kernel declares an array as a number."""


class NumberAsArray(Doubled):
    """Its kernel declares a number as an array."""


class NoCode(Doubled):
    """Its kernel does not compile."""

    @classmethod
    def examples(cls):
        yield cls, (2, 3, 4)
