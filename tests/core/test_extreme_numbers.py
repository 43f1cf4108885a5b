"""Losses and the solver on numbers of any size, next to float64."""

import numpy as np
import pytest

from minet import MeanSquaredError, SoftmaxCrossEntropy, backends

MAGNITUDES = [1e-18, 1e-9, 1e-3, 1.0, 1e3, 1e9, 1e18]


def by(be, loss, y, labels):
    """The loss and dy on a backend."""
    dy = be.array(np.full(y.shape, np.nan))
    value = be.run(loss.on(be), "loss", be.array(y), labels, dy)
    return value, be.get(dy)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), MeanSquaredError()], ids=repr)
def test_a_loss_of_any_size(loss, magnitude, backend):
    draw = np.random.default_rng(0)
    y = (draw.standard_normal((5, 1, 1, 7)) * magnitude).astype("float32")
    labels = draw.integers(0, 5, 7)
    if isinstance(loss, MeanSquaredError):
        labels = (draw.standard_normal(y.shape) * magnitude).astype("float32")
    exact, slope = by(backends.get("cpu", "float64"), loss, y.astype("float64"), labels)
    value, dy = by(backends.get(backend), loss, y, labels)
    assert value == pytest.approx(exact, rel=1e-5)
    np.testing.assert_allclose(dy, slope, rtol=1e-5, atol=1e-6 * np.abs(slope).max())


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_of_any_size(nesterov, magnitude, backend):
    draw = np.random.default_rng(0)
    first = [(draw.standard_normal(1000) * magnitude).astype("float32") for _ in "wgv"]
    settings = {"lr": 0.1, "momentum": 0.9, "decay": 0.01, "nesterov": nesterov, "bounds": None}
    exact, be = backends.get("cpu", "float64"), backends.get(backend)
    reference = [array.astype("float64") for array in first]
    exact.sgd_step(*reference, **settings)
    arrays = [be.array(array.copy()) for array in first]
    be.sgd_step(*arrays, **settings)
    for got, expected in zip(arrays, reference, strict=True):
        np.testing.assert_allclose(be.get(got), expected, rtol=1e-6, atol=1e-6 * magnitude)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows(bad, backend):
    be = backends.get(backend)
    y = np.ones((3, 1, 1, 2), "float32")
    y[1, 0, 0, 1] = bad
    for loss, labels in ((SoftmaxCrossEntropy(), np.array([0, 1])), (MeanSquaredError(), np.zeros_like(y))):
        assert not np.isfinite(by(be, loss, y, labels)[0])
    w, v = (be.array(values) for values in np.ones((2, 4), "float32"))
    bad_g = be.array(np.array([1, bad, 1, 1], "float32"))
    be.sgd_step(w, bad_g, v, lr=0.1, momentum=0.9, decay=0.0, nesterov=False, bounds=(-10.0, None))
    assert not np.isfinite(be.get(v))[1] and np.isfinite(be.get(w))[[0, 2, 3]].all()
    assert not np.isfinite(be.get(w))[1] or be.get(w)[1] == -10.0  # an infinity is clipped to a bound
