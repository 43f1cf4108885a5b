"""Losses and the solver on numbers of any size, next to float64."""

import numpy as np
import pytest
from of_solvers import give, net_of, values_of

from minet import (
    SGD,
    Adam,
    AdamW,
    BinaryCrossEntropy,
    Huber,
    MeanSquaredError,
    SoftmaxCrossEntropy,
    backends,
)

LOSSES = (SoftmaxCrossEntropy, BinaryCrossEntropy, MeanSquaredError, Huber)
EXAMPLES = [
    pytest.param(*example, id=f"{example[0]()!r}{example[1]}".replace(" ", ""))
    for loss in LOSSES
    for example in loss.examples()
]
MAGNITUDES = [1e-18, 1e-9, 1e-3, 1.0, 1e3, 1e9, 1e18]


def by(be, loss, y, labels):
    """The loss and dy on a backend."""
    dy = be.array(np.full(y.shape, np.nan))
    value = be.run(loss.on(be), "loss", be.array(y), labels, dy)
    return value, be.get(dy)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize(("make", "out_shape", "labels"), EXAMPLES)
def test_a_loss_of_any_size(make, out_shape, labels, magnitude, backend):
    draw = np.random.default_rng(0)
    y = (draw.standard_normal((*out_shape, labels.shape[-1])) * magnitude).astype("float32")
    if isinstance(make(), MeanSquaredError | Huber):
        labels = (labels * magnitude).astype("float32")
    exact, slope = by(backends.get("cpu", "float64"), make(), y.astype("float64"), labels)
    value, dy = by(backends.get(backend), make(), y, labels)
    assert value == pytest.approx(exact, rel=1e-5)
    np.testing.assert_allclose(dy, slope, rtol=1e-5, atol=1e-6 * np.abs(slope).max())


SOLVERS = [
    lambda size: SGD(0.1, momentum=0.9, weight_decay=0.01, clip_norm=3 * size),
    lambda size: SGD(0.1, momentum=0.9, nesterov=True, clip_value=size),
    lambda size: Adam(
        0.1 * size, eps=max(1e-3 * size, 1e-8)
    ),  # squares below 1e-38 lose digits, but eps hides them
    lambda size: AdamW(0.1 * size, weight_decay=0.01 / size, clip_norm=3 * size),
]


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("make", SOLVERS)
def test_a_step_of_any_size(make, magnitude, backend):
    draw = np.random.default_rng(0)
    first = [(draw.standard_normal(1000) * magnitude).astype("float32") for _ in range(4)]
    reached = []
    for be in (backends.get("cpu", "float64"), backends.get(backend)):
        net, solver = net_of(be, first[0]), make(magnitude)
        for grad in first[1:]:
            give(net, grad)
            solver.update(net)
        reached.append(values_of(net)[0])
    np.testing.assert_allclose(reached[1], reached[0], rtol=1e-6, atol=1e-6 * magnitude)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows(bad, backend):
    be = backends.get(backend)
    y = np.ones((3, 1, 1, 2), "float32")
    y[1, 0, 0, 1] = bad
    for loss, labels in ((SoftmaxCrossEntropy(), np.array([0, 1])), (MeanSquaredError(), np.zeros_like(y))):
        assert not np.isfinite(by(be, loss, y, labels)[0])
    for solver in (SGD(0.1, momentum=0.9), Adam(0.1)):
        net = net_of(be, np.ones(4), grads=[[1, bad, 1, 1]], bounds=(-10.0, None))
        solver.update(net)
        (w,) = values_of(net)
        kept = [be.get(array)[1] for name, array in solver.state(net).items() if "layer" in name]
        assert not np.isfinite(kept).any() and np.isfinite(w[[0, 2, 3]]).all()
        assert not np.isfinite(w[1]) or w[1] == -10.0  # an infinity is clipped to a bound
