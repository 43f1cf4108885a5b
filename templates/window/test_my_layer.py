"""MyLayer: the contract, values worked out by hand, and plain loops over windows."""

import numpy as np
from minet.testing import layer_checks, run

from my_layer import MyLayer

test_conformance = layer_checks(MyLayer)
test_kernels = layer_checks(MyLayer, backend="emu")


def test_by_hand():
    x = np.array([[1.0, 2, 3], [4, 5, 6]]).reshape(1, 2, 3, 1)
    out = run(MyLayer((1, 3), stride=1), x, np.array([4.0, 8]).reshape(1, 2, 1, 1))
    np.testing.assert_allclose(out.y.ravel(), [2, 5])  # the weights are 1/4, 1/2, 1/4
    np.testing.assert_allclose(out.dx.ravel(), [1, 2, 1, 2, 4, 2])


def test_against_plain_loops():
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 7, 6, 3)), rng.standard_normal((2, 4, 3, 3))
    weights = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    for p, q, r, s in np.ndindex(4, 3, 3, 3):
        h, w = 2 * p - 1 + r, 2 * q - 1 + s
        if 0 <= h < 7 and 0 <= w < 6:
            y[:, p, q] += weights[r, s] * x[:, h, w]
            dx[:, h, w] += weights[r, s] * dy[:, p, q]
    out = run(MyLayer(3, stride=2, pad=1), x, dy)
    np.testing.assert_allclose(out.y, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(out.dx, dx, rtol=1e-12, atol=1e-12)
