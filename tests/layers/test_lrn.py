"""LRN against values worked out by hand and against the Jacobian, element by element."""

import numpy as np
import pytest
from close import assert_close

from minet import LayerError
from minet.layers import LRN, lrn
from minet.testing import layer_checks, run

test_conformance = layer_checks(LRN)


def maps(*values):
    """The values along C, at one position of one sample."""
    return np.array(values, float).reshape(-1, 1, 1, 1)


def test_by_hand_with_neighbours(run):
    y = run(LRN(size=3, alpha=3, beta=1, k=1), maps(1, 2, 2)).y  # s = 1 + (5, 9, 8)
    assert_close(y, maps(1 / 6, 2 / 10, 2 / 9), float32=3e-7)


def test_an_even_window_reaches_further_back(run):
    y = run(LRN(size=2, alpha=2, beta=1, k=1), maps(1, 2, 4)).y  # s = 1 + (1, 1 + 4, 4 + 16)
    assert_close(y, maps(1 / 2, 2 / 6, 4 / 21), float32=3e-7)


def test_the_usual_exponent_by_hand(run):
    out = run(LRN(size=1, alpha=1, k=7), maps(3), maps(1))  # s = 16, s**-0.75 = 1/8, s**-1.75 = 1/128
    assert_close(out.y, maps(3 / 8), float32=3e-7)
    assert_close(out.dx, maps(1 / 8 - 2 * 0.75 * 9 / 128), float32=1e-6)


@pytest.mark.parametrize(("size", "power"), [(1, 0.75), (3, 0.75), (4, 0.6), (5, 0.75), (9, -1.5)])
def test_oracle(run, dtype, size, power):
    alpha, k = 1.3, 0.7
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 6, 5, 3, 19)).astype(dtype)  # 285 columns: a whole tile and a part
    out = run(LRN(size, alpha, power, k), x, dy)
    y, dx = np.zeros(x.shape), np.zeros(x.shape)
    for i in range(6):
        window = [j for j in range(6) if -(size // 2) <= j - i <= (size - 1) // 2]
        s = k + alpha / size * sum(x[j].astype(float) ** 2 for j in window)
        y[i] = x[i] * s**-power
        dx[i] += dy[i] * s**-power
        for j in window:
            dx[j] -= dy[i] * x[i] * 2 * alpha * power / size * x[j] * s ** (-power - 1)
    assert_close(out.y, y)
    assert_close(out.dx, dx)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_slabs_of_maps_change_no_bit(size, gpu_backend, monkeypatch):
    x, dy = np.random.default_rng(0).standard_normal((2, 41, 3, 5, 7)).astype(np.float32)
    given = {"beta_y": 0.5, "y0": dy, "beta_dx": -0.5, "dx0": x, "backend": gpu_backend}
    many = run(LRN(size, alpha=2), x, dy, **given)
    monkeypatch.setattr(lrn, "THREADS", 1)
    one = run(LRN(size, alpha=2), x, dy, **given)
    np.testing.assert_array_equal(many.y, one.y)
    np.testing.assert_array_equal(many.dx, one.dx)


def test_nan_is_not_hidden(run):
    assert np.isnan(run(LRN(), maps(np.nan, 1)).y).all()


@pytest.mark.parametrize("power", [0.75, 0.6])
def test_a_nan_reaches_the_maps_that_see_it_alone(run, power):
    """Forwards those whose windows hold its map; backwards those whose windows share a map with it."""
    x, dy = np.ones((2, 11, 2, 1, 4))
    x[5, 1, 0, 2] = np.nan
    out = run(LRN(size=3, alpha=1, beta=power), x, dy)
    expected = np.zeros(x.shape, bool)
    expected[4:7, 1, 0, 2] = True
    np.testing.assert_array_equal(np.isnan(out.y), expected)
    expected[3:8, 1, 0, 2] = True
    np.testing.assert_array_equal(np.isnan(out.dx), expected)
    x[5, 1, 0, 2], dy[5, 1, 0, 2] = 1, np.nan
    expected[[3, 7], 1, 0, 2] = False
    np.testing.assert_array_equal(np.isnan(run(LRN(size=3, alpha=1, beta=power), x, dy).dx), expected)


@pytest.mark.parametrize("power", [0.75, 0.6])
def test_zeros_stay_zeros_and_pass_the_delta_scaled(run, power):
    out = run(LRN(size=3, alpha=2, beta=power, k=4), maps(0, -0.0, 0), maps(1, 2, 3))
    np.testing.assert_array_equal(out.y, maps(0, 0, 0))
    assert_close(out.dx, 4**-power * maps(1, 2, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be a whole number"),
        ({"size": 2.5}, "size must be a whole number"),
        ({"alpha": "a"}, "alpha must be a finite number"),
        ({"beta": np.nan}, "beta must be a finite number"),
        ({"k": np.inf}, "k must be a finite number"),
        ({"k": 0}, "alpha must be at least 0 and k above 0"),
        ({"alpha": -1}, "alpha must be at least 0 and k above 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(LayerError, match=message):
        LRN(**settings)
