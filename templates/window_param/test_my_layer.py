"""MyLayer: the contract, values worked out by hand, and plain loops over windows."""

import numpy as np
from minet.testing import layer_checks, run

from my_layer import MyLayer

test_conformance = layer_checks(MyLayer)
test_kernels = layer_checks(MyLayer, backend="emu")


def test_by_hand():
    x = np.array([[1.0, 2, 3], [4, 5, 6]]).reshape(1, 2, 3, 1)
    dy, alpha = np.array([4.0, 8]).reshape(1, 2, 1, 1), [[[1, 2, 3]]]
    out = run(MyLayer((1, 3), stride=1), x, dy, params={"alpha": alpha})
    np.testing.assert_allclose(out.y.ravel(), [14, 32])
    np.testing.assert_allclose(out.dx.ravel(), [4, 8, 12, 8, 16, 24])
    np.testing.assert_allclose(out.grads.alpha, [[[36, 48, 60]]])


def test_first_values_are_a_mean():
    out = run(MyLayer(3, stride=1), np.ones((2, 3, 3, 1)))
    np.testing.assert_allclose(out.y, np.ones((2, 1, 1, 1)))


def test_against_plain_loops():
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 7, 6, 3)), rng.standard_normal((2, 4, 3, 3))
    alpha = rng.standard_normal((2, 3, 3))
    y, dx, dalpha = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(alpha)
    for p, q, r, s in np.ndindex(4, 3, 3, 3):
        h, w = 2 * p - 1 + r, 2 * q - 1 + s
        if 0 <= h < 7 and 0 <= w < 6:
            own = alpha[:, r, s, None]
            y[:, p, q] += own * x[:, h, w]
            dx[:, h, w] += own * dy[:, p, q]
            dalpha[:, r, s] += (dy[:, p, q] * x[:, h, w]).sum(-1)
    out = run(MyLayer(3, stride=2, pad=1), x, dy, params={"alpha": alpha})
    np.testing.assert_allclose(out.y, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(out.dx, dx, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(out.grads.alpha, dalpha, rtol=1e-12, atol=1e-12)
