"""Linear against values worked out by hand and NumPy's product in float64."""

import numpy as np
import pytest
from close import assert_close

from minet import LayerError, Net
from minet.layers import Linear
from minet.testing import layer_checks

test_conformance = layer_checks(Linear)


def test_by_hand(run):
    x = np.array([[1.0, 2], [3, 4], [5, 6]]).reshape(3, 1, 1, 2)
    dy = np.array([[1.0, 10], [100, 1000]]).reshape(2, 1, 1, 2)
    params = {"w": [[1, 0, -1], [2, 1, 0]], "b": [0.5, -0.5]}
    out = run(Linear(2), x, dy, params=params, beta_y=2, y0=np.ones_like(dy), beta_dx=-1, dx0=x)
    np.testing.assert_array_equal(out.y.reshape(2, 2), [[-1.5, -1.5], [6.5, 9.5]])
    dx = [[201 - 1, 2010 - 2], [100 - 3, 1000 - 4], [-1 - 5, -10 - 6]]
    np.testing.assert_array_equal(out.dx.reshape(3, 2), dx)
    np.testing.assert_array_equal(out.grads.w, [[21, 43, 65], [2100, 4300, 6500]])
    np.testing.assert_array_equal(out.grads.b, [11, 1100])


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7])
def test_inputs_are_in_the_order_c_h_w(run, batch):
    rng = np.random.default_rng(batch)
    x, dy = rng.standard_normal((3, 4, 5, batch)), rng.standard_normal((6, 1, 1, batch))
    w = rng.standard_normal((6, 60))
    out = run(Linear(6, bias=False), x, dy, params={"w": w})
    image_by_image = w.reshape(6, 3, 4, 5)
    y = np.einsum("kchw,chwn->kn", image_by_image, x)
    assert_close(out.y[:, 0, 0], y)
    dx = np.einsum("kchw,kn->chwn", image_by_image, dy[:, 0, 0])
    assert_close(out.dx, dx)
    dw = np.einsum("kn,chwn->kchw", dy[:, 0, 0], x)
    assert_close(out.grads.w.reshape(dw.shape), dw)


def test_what_is_not_finite_stays_in_its_sample_and_its_unit(run):
    x, dy = np.ones((3, 1, 1, 4)), np.ones((2, 1, 1, 4))
    x[1, 0, 0, 2], dy[1, 0, 0, 3] = np.inf, np.nan
    out = run(Linear(2, init=1.0), x, dy)
    np.testing.assert_array_equal(out.y[:, 0, 0], [[3, 3, np.inf, 3]] * 2)
    np.testing.assert_array_equal(out.dx[:, 0, 0], [[2, 2, 2, np.nan]] * 3)
    np.testing.assert_array_equal(out.grads.w, [[4, np.inf, 4], [np.nan] * 3])
    np.testing.assert_array_equal(out.grads.b, [4, np.nan])


def test_parameters():
    params = Linear(4).params((3, 2, 5))
    assert params["w"].shape == (4, 30) and params["w"].decay
    assert params["b"].shape == (4,) and not params["b"].decay
    assert list(Linear(4, bias=False).params((3, 2, 5))) == ["w"]
    net = Net([Linear(100)], (10, 8, 8), 1)
    assert net.params["0/linear.w"].std() == pytest.approx((2 / 640) ** 0.5, rel=0.02)  # He
    assert not net.params["0/linear.b"].any()


@pytest.mark.parametrize("units", [0, -3, 1.5, "10", None, True])
def test_bad_units(units):
    with pytest.raises(LayerError, match="units must be a whole number of at least 1, got"):
        Linear(units)


def test_bad_bias():
    with pytest.raises(LayerError, match="bias must be True or False, got 0"):
        Linear(3, bias=0)
