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


@pytest.mark.parametrize(
    "layer",
    [
        AvgPool(out=(3, 4)),
        AvgPool(out=(7, 8)),
        AvgPool((2, 3), (1, 2), (1, 2), dilation=2),
        AvgPool(2, 1, 1, dilation=3, count_pad=True),
    ],
    ids=repr,
)
def test_four_samples_at_once_and_one_by_one_give_the_same_bits(layer, gpu_backend):
    draw = np.random.default_rng(1)
    x = draw.standard_normal((2, 7, 6, 8)).astype("f4")
    dy = draw.standard_normal((*layer.clone().configure((2, 7, 6)), 8)).astype("f4")
    together = testing.run(layer, x, dy, backend=gpu_backend, beta_dx=0.5, dx0=x)
    apart = testing.run(layer, x[..., :7], dy[..., :7], backend=gpu_backend, beta_dx=0.5, dx0=x[..., :7])
    np.testing.assert_array_equal(together.y[..., :7], apart.y)
    np.testing.assert_array_equal(together.dx[..., :7], apart.dx)


def test_parts_begin_where_they_do_in_whole_numbers(gpu_backend):
    """Also where size times parts exceeds 32 bits."""
    for size, parts in ((7, 3), (70_000, 70_001), (100_003, 99_991)):
        x = np.zeros((1, 1, size, 1), "f4")
        x[0, 0, :, 0] = np.arange(size) % 7
        y = testing.run(AvgPool(out=(1, parts)), x, backend=gpu_backend).y.ravel()
        firsts, ends = (np.arange(parts) * size // parts, -(-np.arange(1, parts + 1) * size // parts))
        expected = [x[0, 0, a:b, 0].mean() for a, b in zip(firsts, ends, strict=True)]
        np.testing.assert_allclose(y, expected, rtol=1e-6)
