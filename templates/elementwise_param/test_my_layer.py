"""MyLayer: the contract, values worked out by hand, and differences in float64."""

import numpy as np
from minet.testing import layer_checks, run

from my_layer import MyLayer

test_conformance = layer_checks(MyLayer)
test_kernels = layer_checks(MyLayer, backend="emu")


def test_by_hand():
    x = np.array([[-0.75, 0.75], [0.375, 0]]).reshape(2, 1, 1, 2)
    dy = np.array([[2, 1], [2, 3]]).reshape(x.shape)
    out = run(MyLayer(), x, dy, params={"alpha": [1, 4]})  # the root is 1.25, or 1
    np.testing.assert_allclose(out.y.ravel(), [-0.6, 0.6, 0.3, 0])
    np.testing.assert_allclose(out.dx.ravel(), [1.024, 0.512, 1.024, 3])
    np.testing.assert_allclose(out.grads.alpha, [(2 - 1) * 0.216 / 2, -0.027])


def test_slopes_against_differences():
    x, step = np.linspace(-3, 3, 48).reshape(2, 3, 4, 2), 1e-6

    def y(x, alpha):
        return run(MyLayer(), x, params={"alpha": alpha}).y

    alpha = np.array([0.5, 2])
    out = run(MyLayer(), x, np.ones_like(x), params={"alpha": alpha})
    dx = (y(x + step, alpha) - y(x - step, alpha)) / (2 * step)
    dalpha = (y(x, alpha + step) - y(x, alpha - step)) / (2 * step)
    np.testing.assert_allclose(out.dx, dx, rtol=1e-6)
    np.testing.assert_allclose(out.grads.alpha, dalpha.sum(axis=(1, 2, 3)), rtol=1e-6)
