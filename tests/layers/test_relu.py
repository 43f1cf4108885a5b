"""ReLU against NumPy's maximum, and at the values where rectifiers differ."""

import numpy as np

from minet.layers import ReLU
from minet.testing import layer_checks

test_conformance = layer_checks(ReLU)


def column(*values, dtype=float):
    """One channel, one position, the values along N."""
    return np.array(values, dtype).reshape(1, 1, 1, -1)


def test_by_hand(run):
    out = run(ReLU(), column(-2, 0, 3, -0.5), column(10, 20, 30, 40), beta_y=0.5, y0=column(2, 2, 2, 2))
    np.testing.assert_array_equal(out.y, column(1, 1, 4, 1))
    np.testing.assert_array_equal(out.dx, column(0, 0, 30, 0))


def test_zero_has_no_gradient_whatever_its_sign(run):
    out = run(ReLU(), column(0.0, -0.0), column(1, 1))
    np.testing.assert_array_equal(out.dx, column(0, 0))


def test_nan_and_infinity_are_not_hidden(run):
    out = run(ReLU(), column(np.nan, np.inf, -np.inf), column(1, 2, 3))
    np.testing.assert_array_equal(out.y, column(np.nan, np.inf, 0))
    np.testing.assert_array_equal(out.dx, column(1, 2, 0))


def test_a_delta_reaches_positive_numbers_alone_whatever_it_is(run):
    out = run(ReLU(), column(-1, 0, 2, 3), column(np.nan, np.inf, np.nan, -np.inf))
    np.testing.assert_array_equal(out.dx, column(0, 0, np.nan, -np.inf))


def test_the_smallest_numbers_are_positive(run, dtype):
    x = np.finfo(dtype).smallest_subnormal * column(1, -1, 3)
    out = run(ReLU(), x, column(1, 2, 3))
    np.testing.assert_array_equal(out.y, np.maximum(x, 0))
    np.testing.assert_array_equal(out.dx, column(1, 0, 3))


def test_blocks_cover_every_element(run, dtype):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 71, 83, 5)).astype(dtype)
    out = run(ReLU(), x, dy)
    np.testing.assert_array_equal(out.y, np.maximum(x, 0))
    np.testing.assert_array_equal(out.dx, np.where(x > 0, dy, 0))
