"""Identity passes x and dy through."""

import numpy as np

from minet.layers import Identity
from minet.testing import layer_checks

test_conformance = layer_checks(Identity)


def test_by_hand(run):
    x = np.arange(6.0).reshape(1, 2, 3, 1)
    out = run(Identity(), x, 2 * x, beta_dx=0.5, dx0=x)
    np.testing.assert_array_equal(out.y, x)
    np.testing.assert_array_equal(out.dx, 2.5 * x)


def test_nothing_is_changed(run, dtype):
    x = np.array([np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).smallest_subnormal]).reshape(1, 1, 1, 5)
    out = run(Identity(), x, -x)
    np.testing.assert_array_equal(out.y, x)
    np.testing.assert_array_equal(out.dx, -x)
