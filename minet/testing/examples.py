"""The examples that the kit checks a class on: its own, or for containers, which know no layers, these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from minet.core.containers import Concat, Sequential, Sum
from minet.core.layer import Layer, Shape
from minet.layers import Conv, GaussianPool, Identity, PReLU

Example = tuple[Callable[[], Layer], Shape]


def examples(cls: type[Layer]) -> Iterable[Example]:
    """Return pairs of a function that makes a layer of the class and the shape of its input."""
    return CONTAINERS[cls]() if cls in CONTAINERS else cls.examples()


def _sequential() -> Iterator[Example]:
    yield lambda: Sequential(Conv(3, 3, pad=1), PReLU(), GaussianPool(3, stride=2, pad=1)), (2, 6, 5)
    yield lambda: Sequential([PReLU()]), (2, 3, 4)


def _concat() -> Iterator[Example]:
    yield lambda: Concat(Identity(), [Conv(3, 1)], GaussianPool(3, stride=1, pad=1)), (2, 4, 5)
    yield lambda: Concat(Concat(Conv(2, 1), Identity()), Conv(1, 3, pad=1)), (2, 3, 4)


def _sum() -> Iterator[Example]:
    yield lambda: Sum(Identity(), [Conv(3, 3, pad=1), PReLU(), Conv(2, 1)]), (2, 4, 5)
    yield lambda: Sum(PReLU(), Concat(Conv(1, 1), Conv(1, 1))), (2, 3, 4)


CONTAINERS: dict[type[Layer], Callable[[], Iterator[Example]]] = {
    Sequential: _sequential, Concat: _concat, Sum: _sum,
}  # fmt: skip
