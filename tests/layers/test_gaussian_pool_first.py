"""What GaussianPool's parameters start from, and which of them learn."""

import numpy as np
import pytest

from minet import LayerError, Net
from minet.layers import GaussianPool
from minet.layers.gaussian_pool_first import first_values, learned


def test_defaults():
    """A single kernel is centred; several differ in both mean and sigma, and are the same each time."""
    one = GaussianPool((4, 8))
    np.testing.assert_array_equal(one.mean, [[0, 0]])
    np.testing.assert_array_equal(one.sigma, [[1, 2]])
    three = GaussianPool((4, 8), kernels=3)
    np.testing.assert_allclose(three.sigma, [[0.5, 1], [1, 2], [2, 4]])
    assert np.abs(three.mean).max() <= 0.5
    assert min(np.abs(three.mean[i] - three.mean[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.1
    np.testing.assert_array_equal(three.mean, GaussianPool((4, 8), kernels=3).mean)
    assert GaussianPool(1, kernels=4).sigma.min() == 0.3


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (0.5, np.full((2, 3, 2), 0.5)),
        ((1, -1), np.broadcast_to([1.0, -1.0], (2, 3, 2))),
        ([[1, 2], [3, 4], [5, 6]], np.broadcast_to([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], (2, 3, 2))),
        (np.arange(12.0).reshape(2, 3, 2), np.arange(12.0).reshape(2, 3, 2)),
        (np.arange(6.0).reshape(1, 3, 2), np.broadcast_to(np.arange(6.0).reshape(3, 2), (2, 3, 2))),
    ],
)
def test_initial_values(mean, expected):
    net = Net(GaussianPool(3, kernels=3, mean=mean, sigma=np.abs(mean) + 1.0), (2, 6, 6), 1)
    np.testing.assert_allclose(net.params["gaussian_pool.mean"], expected)
    np.testing.assert_allclose(net.params["gaussian_pool.log_sigma"], np.log(np.abs(expected) + 1), rtol=1e-6)


def test_a_correlation_is_one_number_for_each_kernel():
    layer = GaussianPool(3, kernels=2, shape="full")
    np.testing.assert_array_equal(first_values(layer, "correlation", 0.5), [0.5, 0.5])
    np.testing.assert_array_equal(first_values(layer, "correlation", [[0.1, -0.2]]), [[0.1, -0.2]])
    with pytest.raises(LayerError, match=r"hint: use correlation=0.5 or an array of shape \(kernels\)"):
        first_values(layer, "correlation", np.zeros((1, 2, 2)))


@pytest.mark.parametrize("shape", ["diagonal", "full"])
def test_what_learns_is_told_in_the_parameters_order(shape):
    layer = GaussianPool(3, shape=shape)
    assert learned(layer, True) == tuple(layer.parts) and learned(layer, False) == ()
    assert learned(layer, ["sigma", "mean"]) == ("mean", "sigma") and learned(layer, "mean") == ("mean",)
