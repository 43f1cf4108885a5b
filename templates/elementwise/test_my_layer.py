"""MyLayer: the contract, values worked out by hand, and NumPy in float64."""

import numpy as np
from minet.testing import layer_checks, run

from my_layer import MyLayer

test_conformance = layer_checks(MyLayer)
test_kernels = layer_checks(MyLayer, backend="emu")


def test_by_hand():
    x = np.array([-0.75, 0, 0.75]).reshape(3, 1, 1, 1)  # 1 + x**2 is 1.25**2, or 1
    out = run(MyLayer(), x, np.array([1.0, 2, 2]).reshape(x.shape))
    np.testing.assert_allclose(out.y.ravel(), [-0.6, 0, 0.6])
    np.testing.assert_allclose(out.dx.ravel(), [0.512, 2, 1.024])


def test_slope_against_differences():
    x, step = np.linspace(-3, 3, 48).reshape(2, 3, 4, 2), 1e-6
    rise = run(MyLayer(), x + step).y - run(MyLayer(), x - step).y
    slope = run(MyLayer(), x, np.ones_like(x)).dx
    np.testing.assert_allclose(slope, rise / (2 * step), rtol=1e-6)
