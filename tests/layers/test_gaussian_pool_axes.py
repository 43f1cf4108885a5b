"""GaussianPool's passes along each axis on a GPU: their order, and results beside the cpu's."""

import numpy as np
import pytest
from close import assert_close

from minet import testing
from minet.layers import GaussianPool
from minet.layers.gaussian_pool_axes import Axes


@pytest.mark.parametrize(("size", "stride", "down"), [((2, 40), (1, 8), False), ((40, 2), (8, 1), True)])
def test_the_axis_that_leaves_less_to_do_comes_first(size, stride, down):
    shape, layer = (2, 48, 48), GaussianPool(size, stride)
    assert Axes(layer, (shape, layer.configure(shape))).down_first is down


@pytest.mark.parametrize("shape", [(2, 6, 9), (2, 9, 6)], ids=["across first", "down first"])
def test_both_orders_compute_what_the_cpu_does(gpu_backend, shape):
    layer = GaussianPool((shape[1] - 2, shape[2] - 2), 1, kernels=8)
    x = np.random.default_rng(0).standard_normal((*shape, 3)).astype("f4")
    dy = np.random.default_rng(1).standard_normal((*layer.configure(shape), 3)).astype("f4")
    got, expected = (testing.run(layer, x, dy, backend=name) for name in (gpu_backend, "cpu"))
    for name in ("y", "dx"):
        assert_close(getattr(got, name), getattr(expected, name), what=name)
    for name in ("mean", "log_sigma"):
        assert_close(got.grads[name], expected.grads[name], float32=1e-4, what=name)
