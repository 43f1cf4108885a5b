"""PReLU against values worked out by hand and against plain NumPy in float64."""

import numpy as np
import pytest
from close import assert_close

from minet import LayerError, Net
from minet.core.init import Gaussian
from minet.layers import PReLU
from minet.testing import layer_checks

test_conformance = layer_checks(PReLU)


def test_by_hand(run):
    x = np.array([[-2.0, 3.0], [-1.0, -4.0]]).reshape(2, 1, 1, 2)
    dy = np.array([[10.0, 20.0], [30.0, 40.0]]).reshape(2, 1, 1, 2)
    out = run(PReLU(), x, dy, params={"a": [0.5, 2.0]}, beta_y=-1, y0=np.ones_like(x), beta_dx=2, dx0=x)
    np.testing.assert_array_equal(out.y.reshape(2, 2), [[-2, 2], [-3, -9]])
    np.testing.assert_array_equal(out.dx.reshape(2, 2), [[5 - 4, 20 + 6], [60 - 2, 80 - 8]])
    np.testing.assert_array_equal(out.grads.a, [-20, -190])


def test_a_shared_slope_takes_the_gradients_of_all_channels(run):
    x = np.array([-2.0, 3.0, -1.0]).reshape(3, 1, 1, 1)
    out = run(PReLU(0.5, shared=True), x, 10 * np.ones_like(x))
    np.testing.assert_array_equal(out.y.ravel(), [-1, 3, -0.5])
    np.testing.assert_array_equal(out.dx.ravel(), [5, 10, 5])
    np.testing.assert_array_equal(out.grads.a, [-30])


def test_at_zero_the_slope_is_a(run):
    out = run(PReLU(0.25), np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1)))
    assert (out.y.item(), out.dx.item(), out.grads.a.item()) == (0, 0.25, 0)


def test_nan_is_not_hidden(run):
    out = run(PReLU(), np.full((1, 1, 1, 1), np.nan), np.ones((1, 1, 1, 1)))
    assert np.isnan(out.y.item()) and np.isnan(out.grads.a.item())
    assert out.dx.item() == 0.25


def test_infinity_is_not_hidden(run):
    x, dy = (np.array(values).reshape(2, 1, 1, 2) for values in ([np.inf, 1, -np.inf, -2], [3.0, 4, 5, 6]))
    out = run(PReLU(0.5), x, dy)
    np.testing.assert_array_equal(out.y.ravel(), [np.inf, 1, -np.inf, -1])
    np.testing.assert_array_equal(out.dx.ravel(), [3, 4, 2.5, 3])
    np.testing.assert_array_equal(out.grads.a, [0, -np.inf])


def test_a_delta_of_a_positive_number_does_not_reach_the_slope(run):
    x, dy = (np.array(values).reshape(1, 1, 1, 2) for values in ([1.0, -2], [np.nan, 3]))
    out = run(PReLU(0.5), x, dy)
    np.testing.assert_array_equal(out.dx.ravel(), [np.nan, 1.5])
    np.testing.assert_array_equal(out.grads.a, [-6])


def test_a_negative_zero_is_on_the_negative_side(run):
    x = np.array([0.0, -0.0]).reshape(1, 1, 1, 2)
    np.testing.assert_array_equal(run(PReLU(3.0), x, np.ones_like(x)).dx.ravel(), [3, 3])
    assert np.isnan(run(PReLU(3.0), x, np.full_like(x, np.inf)).grads.a)  # 0 times infinity


@pytest.mark.parametrize("shared", [False, True])
def test_oracle_over_several_blocks(run, dtype, shared):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 71, 53, 5)).astype(dtype)
    a = np.array([0.3] if shared else [0.3, -1.0, 2.0], dtype)
    out = run(PReLU(shared=shared), x, dy, params={"a": a})
    slope = a.reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(out.y, np.where(x > 0, x, slope * x))
    np.testing.assert_array_equal(out.dx, np.where(x > 0, dy, slope * dy))
    terms = np.where(x > 0, 0, dy.astype(float) * x)
    expected = terms.sum(keepdims=True) if shared else terms.sum(axis=(1, 2, 3))
    assert_close(out.grads.a, expected.reshape(-1))


@pytest.mark.parametrize("shared", [False, True])
def test_blocks_that_end_in_any_order_add_up_once(shared, gpu_backend):
    """The last block of a slope adds the shares; its counter is ready for the next call."""
    made = Net([PReLU(shared=shared)], (3, 53, 55), 4, backend=gpu_backend)
    x, dy = np.random.default_rng(0).standard_normal((2, 3, 53, 55, 4)).astype(np.float32)
    made.fprop(x, train=True)
    grads = []
    for _ in range(3):
        made.bprop(dy)
        grads.append(made.be.get(made.grads["0/prelu.a"]).copy())
    terms = np.where(x > 0, 0, dy.astype(float) * x)
    expected = terms.sum(keepdims=True) if shared else terms.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(grads[0], expected.reshape(-1), atol=1e-3)
    np.testing.assert_array_equal(grads[1:], grads[:1] * 2)


def test_long_sums_keep_float32s_digits(run):
    x = np.full((1, 1000, 100, 3), -0.1, np.float32)  # one running sum in float32 would be off by 1e-3
    out = run(PReLU(), x, np.ones_like(x))
    np.testing.assert_allclose(out.grads.a, np.float32(-0.1) * float(x.size), rtol=1e-6)


@pytest.mark.parametrize(("shared", "shape"), [(False, (4,)), (True, (1,))])
def test_slopes_do_not_decay(shared, shape):
    param = PReLU(shared=shared).params((4, 2, 2))["a"]
    assert param.shape == shape and not param.decay and param.bounds is None


def test_first_values():
    assert Net([PReLU()], (2, 1, 1), 1).params["0/prelu.a"].tolist() == [0.25, 0.25]
    assert Net([PReLU([1, 2])], (2, 1, 1), 1).params["0/prelu.a"].tolist() == [1, 2]
    drawn = Net([PReLU(Gaussian(1.0))], (2, 1, 1), 1).params["0/prelu.a"]
    assert np.isfinite(drawn).all() and drawn[0] != drawn[1]
    with pytest.raises(LayerError, match=r"initial a of shape \(2,\) does not fit \(3,\)"):
        Net([PReLU([1, 2])], (3, 1, 1), 1)


@pytest.mark.parametrize("settings", [{"init": "he"}, {"init": None}, {"init": np.nan}, {"shared": 1}])
def test_bad_settings(settings):
    with pytest.raises(LayerError, match=f"{next(iter(settings))} must be"):
        PReLU(**settings)


def test_rows_of_several_blocks_are_added_to_once(run):
    x, y0 = (
        np.sin(np.arange(20000.0)).reshape(1, 100, 50, 4),
        np.cos(np.arange(20000.0)).reshape(1, 100, 50, 4),
    )
    out = run(PReLU(), x, y0, params={"a": 0.5}, beta_y=0.5, y0=y0, beta_dx=-0.5, dx0=x)
    np.testing.assert_allclose(out.y, 0.5 * y0 + np.where(x > 0, x, 0.5 * x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out.dx, np.where(x > 0, y0, 0.5 * y0) - 0.5 * x, rtol=1e-5, atol=1e-6)
