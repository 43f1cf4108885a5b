"""Softmax against values worked out by hand, and against SciPy and a Jacobian written out in float64."""

import math

import numpy as np
import pytest
from close import assert_close
from scipy.special import softmax

from minet.layers import Softmax
from minet.testing import layer_checks

test_conformance = layer_checks(Softmax)


def pixel(*values):
    """One sample of 1x1, the values along its channels."""
    return np.array(values, float).reshape(-1, 1, 1, 1)


def test_by_hand(run):
    x, dy = pixel(0, math.log(2), math.log(5)), pixel(8, 0, 16)
    out = run(Softmax(), x, dy, beta_y=2, y0=np.ones_like(x), beta_dx=-1, dx0=pixel(1, 2, 3))
    np.testing.assert_allclose(out.y, pixel(2 + 0.125, 2 + 0.25, 2 + 0.625), rtol=1e-6)
    # The mean of dy is 8/8 + 80/8 = 11.
    np.testing.assert_allclose(out.dx, pixel(-3 / 8 - 1, -11 / 4 - 2, 25 / 8 - 3), atol=1e-6)


def test_a_single_map_is_1_and_passes_no_delta_on(run):
    x = np.array([[3.0, -80.0]]).reshape(1, 1, 1, 2)
    out = run(Softmax(), x, np.array([5.0, 7.0]).reshape(x.shape))
    np.testing.assert_array_equal(out.y.ravel(), [1, 1])
    np.testing.assert_array_equal(out.dx.ravel(), [0, 0])


def test_pixels_and_samples_are_apart(run):
    x = np.arange(24.0).reshape(2, 3, 2, 2) % 5
    out = run(Softmax(), x)
    for i in np.ndindex(3, 2, 2):
        np.testing.assert_allclose(out.y[:, *i], softmax(x[:, *i]), rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3, 7, 9), (1000, 1, 1, 2), (2, 13, 11, 3)])
def test_oracle_over_several_tiles(run, dtype, shape):
    rng = np.random.default_rng(0)
    x, dy = (4 * rng.standard_normal((2, *shape))).astype(dtype)
    out = run(Softmax(), x, dy)
    p = softmax(x.astype(float), axis=0)
    assert_close(out.y, p)
    # dx = J^T dy with J[k, c] = p[k] * ((k == c) - p[c])
    jacobian = np.einsum("kc,k...->kc...", np.eye(shape[0]), p) - np.einsum("k...,c...->kc...", p, p)
    assert_close(out.dx, np.einsum("kc...,k...->c...", jacobian, dy.astype(float)))


def test_large_numbers_do_not_overflow(run):
    out = run(Softmax(), pixel(1e30, 1e30, -1e30), pixel(1, 3, 7))
    np.testing.assert_array_equal(out.y.ravel(), [0.5, 0.5, 0])
    np.testing.assert_array_equal(out.dx.ravel(), [-0.5, 0.5, 0])


def test_a_delta_keeps_its_digits_beside_a_probability_of_almost_1(run):
    """In float32 ``dy - sum of y*dy`` would be 0 for the first map."""
    tiny = math.exp(-40)
    out = run(Softmax(), pixel(0, -40), pixel(3, 1))
    np.testing.assert_allclose(out.dx.ravel(), [2 * tiny, -2 * tiny], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_nan_and_infinity_show_in_all_of_their_pixel(run, bad, where):
    x = np.zeros((3, 1, 1, 2))
    x[where, 0, 0, 0] = bad
    y = run(Softmax(), x).y
    assert np.isnan(y[..., 0]).all()
    np.testing.assert_allclose(y[..., 1], 1 / 3, rtol=1e-6)


def test_minus_infinity_is_impossible(run):
    out = run(Softmax(), pixel(-np.inf, 1, 1), pixel(1, 2, 4))
    np.testing.assert_array_equal(out.y.ravel(), [0, 0.5, 0.5])
    np.testing.assert_array_equal(out.dx.ravel(), [0, -0.5, 0.5])


def test_long_sums_keep_float32s_digits(run):
    y = run(Softmax(), np.zeros((30000, 1, 1, 1), np.float32)).y
    np.testing.assert_allclose(y, 1 / 30000, rtol=3e-7)
