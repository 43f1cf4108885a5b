"""BatchNorm against values worked out by hand and against the Jacobian written as a matrix."""

import numpy as np
import pytest

from minet import LayerError, Net
from minet.layers import BatchNorm
from minet.testing import layer_checks, run

test_conformance = layer_checks(BatchNorm)


def test_by_hand():
    x = np.array([0.0, 2.0, 4.0, 2.0]).reshape(1, 2, 1, 2)  # mean 2, biased variance 2
    dy = np.array([1.0, 0.0, 0.0, 3.0]).reshape(1, 2, 1, 2)
    out = run(BatchNorm(eps=2.0), x, dy, params={"gamma": [3.0], "shift": [10.0]})
    np.testing.assert_allclose(out.y.ravel(), [7, 10, 13, 10])  # 10 + 3 * (x - 2) / sqrt(2 + 2)
    np.testing.assert_allclose(out.grads.gamma, [-1])  # xhat = -1, 0, 1, 0
    np.testing.assert_allclose(out.grads.shift, [4])
    # 1.5 * (dy - mean dy - xhat * mean(dy * xhat)) = 1.5 * (dy - 1 + xhat / 4)
    np.testing.assert_allclose(out.dx.ravel(), [-0.375, -1.5, -1.125, 3])


def test_running_statistics_by_hand():
    x = np.array([0.0, 2.0]).reshape(1, 1, 1, 2)  # mean 1, unbiased variance 2
    out = run(BatchNorm(momentum=0.9), x)
    np.testing.assert_allclose(out.state.running_mean, [0.1])
    np.testing.assert_allclose(out.state.running_var, [0.9 * 1 + 0.1 * 2])


def test_evaluation_uses_the_running_statistics():
    net = Net(BatchNorm(eps=1.0), (2, 1, 1), 3, dtype="float64")
    net.persistent["batch_norm.running_mean"][:] = [1, -2]
    net.persistent["batch_norm.running_var"][:] = [3, 8]
    net.params["batch_norm.gamma"][:] = [4, 6]
    net.params["batch_norm.shift"][:] = [0.5, 0]
    x = np.array([[1.0, 2.0, 5.0], [-2.0, 1.0, 4.0]]).reshape(2, 1, 1, 3)
    np.testing.assert_allclose(net.fprop(x).reshape(2, 3), [[0.5, 2.5, 8.5], [0, 6, 12]])
    dy, dx = np.ones_like(x), np.empty_like(x)
    net.bprop(dy, dx)
    np.testing.assert_allclose(dx.reshape(2, 3), [[2, 2, 2], [2, 2, 2]])
    np.testing.assert_allclose(net.grads["batch_norm.gamma"], [2.5, 3])
    np.testing.assert_allclose(net.grads["batch_norm.shift"], [3, 3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_oracle(dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((3, 4, 5, 7)) * [[[[1]]], [[[5]]], [[[0.1]]]] + 2).astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    gamma, shift = rng.standard_normal((2, 3)).astype(dtype)
    out = run(BatchNorm(momentum=0.7, eps=1e-3), x, dy, params={"gamma": gamma, "shift": shift})
    tolerance = {"rtol": 2e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    for c in range(3):
        row, delta = x[c].ravel().astype(float), dy[c].ravel().astype(float)
        m, inv_std = row.size, 1 / np.sqrt(row.var() + 1e-3)
        xhat = (row - row.mean()) * inv_std
        jacobian = gamma[c] * inv_std * (np.eye(m) - np.full((m, m), 1 / m) - np.outer(xhat, xhat) / m)
        np.testing.assert_allclose(out.y[c].ravel(), gamma[c] * xhat + shift[c], **tolerance)
        np.testing.assert_allclose(out.dx[c].ravel(), jacobian.T @ delta, **tolerance)
        np.testing.assert_allclose(out.grads.gamma[c], delta @ xhat, **tolerance)
        np.testing.assert_allclose(out.grads.shift[c], delta.sum(), **tolerance)
        np.testing.assert_allclose(out.state.running_mean[c], 0.3 * row.mean(), **tolerance)
        np.testing.assert_allclose(out.state.running_var[c], 0.7 + 0.3 * row.var(ddof=1), **tolerance)


def test_a_mean_far_from_zero_costs_no_digits(backend):
    x = (4096 + np.arange(1000) / 256).astype(np.float32).reshape(1, 10, 10, 10)  # exact in float32
    expected = x.astype(float) - x.mean(dtype=float)
    expected /= expected.std()
    np.testing.assert_allclose(run(BatchNorm(eps=1e-9), x, backend=backend).y, expected, atol=1e-3)


def test_a_mean_between_two_floats_does_not_add_to_the_variance(backend):
    x = np.full((1, 4, 8, 16), 2.0**20, np.float32)
    x[..., ::2] += 0.125  # the next float
    found = run(BatchNorm(eps=1e-9), x, backend=backend).state.inv_std
    np.testing.assert_allclose(found, [16], rtol=1e-5)  # the standard deviation is 1/16


@pytest.mark.parametrize("size", [(3, 5, 8, 41), (2, 9, 16, 61), (2, 32, 33, 9)])  # one share, four, four
@pytest.mark.parametrize("train", [True, False])
def test_sums_in_shares(backend, size, train):
    rng = np.random.default_rng(size)
    x, dy, y0 = rng.standard_normal((3, *size)).astype(np.float32)
    x += 100  # a wrong share shows in their mean
    given = {"params": {"gamma": rng.standard_normal(size[0]), "shift": rng.standard_normal(size[0])}}
    given |= {"beta_y": 0.5, "y0": y0, "beta_dx": -0.7, "dx0": x, "train": train}
    exact = run(BatchNorm(), *(a.astype(float) for a in (x, dy)), **given)
    got = run(BatchNorm(), x, dy, backend=backend, **given)
    for name in ("running_mean", "running_var", "mean", "inv_std"):
        np.testing.assert_allclose(got.state[name], exact.state[name], rtol=1e-5, err_msg=name)
    for name in ("y", "dx"):
        np.testing.assert_allclose(getattr(got, name), getattr(exact, name), rtol=1e-4, atol=2e-4)
    for name in ("gamma", "shift"):
        np.testing.assert_allclose(got.grads[name], exact.grads[name], rtol=1e-4, atol=1e-2)


def test_a_single_element_has_no_spread(backend):
    x = np.array([5.0, -3.0], np.float32).reshape(2, 1, 1, 1)
    out = run(BatchNorm(momentum=0.5), x, np.ones_like(x), params={"shift": [1.0, 2.0]}, backend=backend)
    np.testing.assert_array_equal(out.y.ravel(), [1, 2])
    np.testing.assert_array_equal(out.dx.ravel(), [0, 0])
    np.testing.assert_array_equal(out.state.running_mean, [2.5, -1.5])
    np.testing.assert_array_equal(out.state.running_var, [0.5, 0.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_batch_that_is_not_finite_leaves_the_running_statistics(bad, backend):
    x = np.array([[0.0, 2.0], [bad, 1.0]], np.float32).reshape(2, 1, 1, 2)  # 1e30: only its square overflows
    out = run(BatchNorm(momentum=0.5), x, backend=backend)
    np.testing.assert_allclose(out.state.running_mean, [0.5, 0])
    np.testing.assert_allclose(out.state.running_var, [1.5, 1])


def test_gamma_and_shift_do_not_decay():
    params = BatchNorm().params((4, 2, 2))
    assert {name: (p.shape, p.init, p.decay) for name, p in params.items()} == {
        "gamma": ((4,), 1.0, False),
        "shift": ((4,), 0.0, False),
    }


@pytest.mark.parametrize("settings", [{"momentum": 1}, {"momentum": "a"}, {"eps": 0}, {"eps": np.inf}])
def test_bad_settings(settings):
    with pytest.raises(LayerError, match=f"{next(iter(settings))} must be a number"):
        BatchNorm(**settings)
