"""AvgPool's windows that a GPU takes one by one: which they are, and their kernels by hand."""

import numpy as np
import pytest

from minet import testing
from minet.layers import AvgPool
from minet.layers.avg_pool_direct import needed


@pytest.mark.parametrize(
    ("layer", "one_by_one"),
    [
        (AvgPool(), False), (AvgPool(3, 2, 1), False), (AvgPool(2, count_pad=True), False),
        (AvgPool(2, dilation=2), True), (AvgPool(2, dilation=(1, 3)), True), (AvgPool(out=(3, 2)), True),
    ],
    ids=repr,
)  # fmt: skip
def test_spread_windows_and_those_of_different_sizes(layer, one_by_one):
    assert needed(layer) is one_by_one


def test_the_kernels_by_hand(gpu_backend):
    x = np.arange(5, dtype="f4").reshape(1, 1, 5, 1)
    spread = testing.run(
        AvgPool((1, 2), 1, dilation=2), x, np.full((1, 1, 3, 1), 2, "f4"), backend=gpu_backend
    )
    assert spread.y.ravel().tolist() == [1, 2, 3]  # of 0 and 2, 1 and 3, 2 and 4
    assert spread.dx.ravel().tolist() == [1, 1, 2, 1, 1]
    adaptive = testing.run(AvgPool(out=(1, 2)), x, np.full((1, 1, 2, 1), 3, "f4"), backend=gpu_backend)
    assert adaptive.y.ravel().tolist() == [1, 3]  # of 0 1 2, and 2 3 4
    assert adaptive.dx.ravel().tolist() == [1, 1, 2, 1, 1]
