"""How a GPU computes GaussianPool: which kernels a window takes."""

import pytest

from minet.layers import GaussianPool
from minet.layers import gaussian_pool_gpu as gpu


@pytest.mark.parametrize(
    ("layer", "way"),
    [
        (GaussianPool(3, kernels=3), gpu.March),
        (GaussianPool(15, 1, 7, kernels=3), gpu.March),
        (GaussianPool(15, 1, 7, kernels=4), gpu.Axes),  # too many sums
        (GaussianPool(3, kernels=8), gpu.Axes),
        (GaussianPool((1, 16)), gpu.Axes),
        (GaussianPool(3, dilation=2), gpu.Axes),
        (GaussianPool(None), gpu.Axes),
        (GaussianPool(3, shape="full"), gpu.Full),
    ],
    ids=repr,
)
def test_the_way_that_a_window_takes(layer, way):
    shape = (2, 20, 20)
    assert type(gpu.plan(layer, (shape, layer.configure(shape)))) is way
