"""Identity passes x and dy through."""

import numpy as np

from minet.layers import Identity
from minet.testing import layer_checks, run

test_conformance = layer_checks(Identity)


def test_by_hand():
    x = np.arange(6.0).reshape(1, 2, 3, 1)
    out = run(Identity(), x, 2 * x, beta_dx=0.5, dx0=x)
    np.testing.assert_array_equal(out.y, x)
    np.testing.assert_array_equal(out.dx, 2.5 * x)
