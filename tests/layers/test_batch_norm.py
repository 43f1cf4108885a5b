"""BatchNorm against values worked out by hand and against the Jacobian written as a matrix."""

import numpy as np
import pytest
from close import assert_close

from minet import LayerError, Net
from minet.layers import BatchNorm
from minet.testing import layer_checks, run

test_conformance = layer_checks(BatchNorm)


def test_by_hand(run):
    x = np.array([0.0, 2.0, 4.0, 2.0]).reshape(1, 2, 1, 2)  # mean 2, biased variance 2
    dy = np.array([1.0, 0.0, 0.0, 3.0]).reshape(1, 2, 1, 2)
    out = run(BatchNorm(eps=2.0), x, dy, params={"gamma": [3.0], "shift": [10.0]})
    assert_close(out.y.ravel(), [7, 10, 13, 10], float32=3e-7)  # 10 + 3 * (x - 2) / sqrt(2 + 2)
    assert_close(out.grads.gamma, [-1])  # xhat = -1, 0, 1, 0
    assert_close(out.grads.shift, [4])
    # 1.5 * (dy - mean dy - xhat * mean(dy * xhat)) = 1.5 * (dy - 1 + xhat / 4)
    assert_close(out.dx.ravel(), [-0.375, -1.5, -1.125, 3], float32=1e-6)


def test_running_statistics_by_hand(run):
    x = np.array([0.0, 2.0]).reshape(1, 1, 1, 2)  # mean 1, unbiased variance 2
    out = run(BatchNorm(momentum=0.9), x)
    assert_close(out.state.running_mean, [0.1])
    assert_close(out.state.running_var, [0.9 * 1 + 0.1 * 2])


def test_evaluation_uses_the_running_statistics(place):
    name, dtype = place
    net = Net(BatchNorm(eps=1.0), (2, 1, 1), 3, backend=name, dtype=dtype)
    for path, values in {
        "running_mean": [1, -2], "running_var": [3, 8], "gamma": [4, 6], "shift": [0.5, 0],
    }.items():  # fmt: skip
        net.be.copy(np.array(values, dtype), (net.persistent | net.params)[f"batch_norm.{path}"])
    x = net.be.array(np.array([[1, 2, 5], [-2, 1, 4]], dtype).reshape(2, 1, 1, 3))
    assert_close(net.be.get(net.fprop(x)).reshape(2, 3), [[0.5, 2.5, 8.5], [0, 6, 12]])
    dy, dx = net.be.array(np.ones(x.shape, dtype)), net.be.zeros(x.shape)
    net.bprop(dy, dx)
    assert_close(net.be.get(dx).reshape(2, 3), [[2, 2, 2], [2, 2, 2]])
    assert_close(net.be.get(net.grads["batch_norm.gamma"]), [2.5, 3])
    assert_close(net.be.get(net.grads["batch_norm.shift"]), [3, 3])


def test_oracle(run, dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((3, 4, 5, 7)) * [[[[1]]], [[[5]]], [[[0.1]]]] + 2).astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    gamma, shift = rng.standard_normal((2, 3)).astype(dtype)
    out = run(BatchNorm(momentum=0.7, eps=1e-3), x, dy, params={"gamma": gamma, "shift": shift})
    for c in range(3):
        row, delta = x[c].ravel().astype(float), dy[c].ravel().astype(float)
        m, inv_std = row.size, 1 / np.sqrt(row.var() + 1e-3)
        xhat = (row - row.mean()) * inv_std
        jacobian = gamma[c] * inv_std * (np.eye(m) - np.full((m, m), 1 / m) - np.outer(xhat, xhat) / m)
        assert_close(out.y[c].ravel(), gamma[c] * xhat + shift[c])
        assert_close(out.dx[c].ravel(), jacobian.T @ delta)
        assert_close(out.grads.gamma[c], delta @ xhat)
        assert_close(out.grads.shift[c], delta.sum())
        assert_close(out.state.running_mean[c], 0.3 * row.mean())
        assert_close(out.state.running_var[c], 0.7 + 0.3 * row.var(ddof=1))


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


def test_training_on_a_single_value_per_channel_is_refused(backend):
    x = np.array([5.0, -3.0], np.float32).reshape(2, 1, 1, 1)
    with pytest.raises(
        LayerError, match=r"a channel has a single value in training.*\n  hint: train with a larger"
    ):
        run(BatchNorm(), x, backend=backend)
    out = run(BatchNorm(eps=3.0), x, train=False, backend=backend)
    np.testing.assert_allclose(out.y, x / 2)
    run(BatchNorm(), np.repeat(x, 2, 3), backend=backend)


def test_a_nan_or_an_infinity_shows_in_its_channel_alone(run):
    for bad in (np.nan, np.inf, -np.inf):
        x, dy = np.arange(36.0).reshape(3, 2, 2, 3), np.ones((3, 2, 2, 3))
        x[1, 1, 0, 2] = bad
        out = run(BatchNorm(), x, dy)
        for got in (out.y, out.dx, out.grads.gamma.reshape(3, 1, 1, 1)):
            assert np.isnan(got[1]).all() and np.isfinite(got[[0, 2]]).all()
        assert_close(out.grads.shift, [12, 12, 12])


def test_a_constant_channel_gives_its_shift_and_passes_no_delta_on(run):
    """Zeros, and ties of numbers that the mean holds exactly: the variance is 0 and eps alone divides."""
    x = np.array([0.0, -7.0, 3e8]).reshape(3, 1, 1, 1) * np.ones((3, 2, 2, 4))
    out = run(BatchNorm(eps=0.25), x, np.ones(x.shape), params={"shift": [1.0, 2.0, 3.0], "gamma": 5.0})
    np.testing.assert_array_equal(out.y, np.array([1.0, 2, 3]).reshape(3, 1, 1, 1) * np.ones(x.shape))
    np.testing.assert_array_equal(out.dx, 0)
    np.testing.assert_array_equal(out.grads.gamma, 0)
    np.testing.assert_array_equal(out.state.inv_std, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_batch_that_is_not_finite_leaves_the_running_statistics(bad, backend):
    x = np.array([[0.0, 2.0], [bad, 1.0]], np.float32).reshape(2, 1, 1, 2)  # 1e30: only its square overflows
    out = run(BatchNorm(momentum=0.5), x, backend=backend)
    np.testing.assert_allclose(out.state.running_mean, [0.5, 0])
    np.testing.assert_allclose(out.state.running_var, [1.5, 1])


def test_long_sums_keep_float32s_digits(run):
    """Backwards too: one running sum of 300,000 terms in float32 would be off by 1e-3."""
    x = np.where(np.arange(300_000).reshape(1, 1000, 100, 3) % 3 == 0, 2.0, -1.0)
    out = run(BatchNorm(), x, np.full(x.shape, 0.1) * np.where(x > 0, 3, 1))
    dy = float(out.y.dtype.type(0.1))
    np.testing.assert_allclose(out.grads.shift, dy * x.size * 5 / 3, rtol=2e-6)
    np.testing.assert_allclose(out.grads.gamma, dy * x.size * (3 * 2 - 2) / 3 / 2**0.5, rtol=1e-5)


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
