"""The cost of the framework itself: `python -m benchmarks.overhead`.

Microseconds of Python for each layer and training step: how much time each layer adds, from nets with few and
with many layers that do nothing. With a parameter, a layer also has its update by the solver.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minet import SGD, Layer, Net, Param, Sequential, SoftmaxCrossEntropy
from minet.bench.timers import HostWatch, measure

FEW, MANY = 10, 210
TARGET = 10.0  # microseconds for a layer and step


class Empty(Layer):
    """A layer that does nothing."""

    def out_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        return in_shape

    def fprop_cpu(self, x: Any, y: Any, beta: float, train: bool) -> None:
        pass

    def bprop_cpu(self, x: Any, dy: Any, dx: Any, beta: float) -> None:
        pass

    @classmethod
    def examples(cls) -> Iterable[Any]:
        return ()


class EmptyWithParam(Empty):
    """A layer that does nothing, but has a parameter."""

    def params(self, in_shape: tuple[int, ...]) -> dict[str, Param]:
        return {"a": Param((1,))}


def per_layer(cls: type[Layer], few: int = FEW, many: int = MANY, least: float = 0.5) -> float:
    """Return the microseconds that one more layer adds to a training step."""
    return (step_of(cls, many, least) - step_of(cls, few, least)) / (many - few) * 1e6


def step_of(cls: type[Layer], count: int, least: float) -> float:
    """Return the seconds of a training step through `count` of these layers."""
    net = Net(Sequential(*(cls() for _ in range(count))), (2, 1, 1), 1, SoftmaxCrossEntropy())
    net.be.tried = None  # nor do they write y, which a first call is checked for
    for layer in net.graph.walk():
        for state in layer.s.values():
            state.fill(0)  # these layers never write it
    x, labels, solver = np.zeros((2, 1, 1, 1), np.float32), np.zeros(1, int), SGD(0.1)
    return measure(HostWatch(), lambda: net.train_step(x, labels, solver), False, least)


def main() -> None:
    for cls, what in ((Empty, "an empty layer"), (EmptyWithParam, "one with a parameter")):
        spent = per_layer(cls)
        under = "" if spent <= TARGET or cls is not Empty else f"  < target: at most {TARGET:g}"
        print(f"{what:<22} {spent:6.1f} us a step{under}")


if __name__ == "__main__":
    main()
