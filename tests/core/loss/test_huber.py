"""Huber against values worked out by hand, central differences and PyTorch; its kernel."""

import math

import numpy as np
import pytest
from of_losses import check_gradient, in_float64, logits, of_torch, on

from minet import Huber, MinetError, backends

DELTAS = pytest.mark.parametrize("delta", [0.1, 1, 3.5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_hand(dtype):
    y, targets = logits([[1, 2], [3, 4]], dtype), logits([[1, 1.5], [0, 8]])
    dy = np.full_like(y, np.nan)
    assert Huber().loss_cpu(y, targets, dy) == (0 + 0.125 + 2.5 + 3.5) / 4
    np.testing.assert_array_equal(dy, logits([[0, 0.5 / 4], [1 / 4, -1 / 4]]))
    assert Huber(delta=2).loss_cpu(y, targets, dy) == (0 + 0.125 + 2 * (3 - 1) + 2 * (4 - 1)) / 4
    np.testing.assert_array_equal(dy, logits([[0, 0.5 / 4], [2 / 4, -2 / 4]]))


@DELTAS
def test_it_equals_pytorchs(delta):
    F = pytest.importorskip("torch").nn.functional
    y, targets = 3 * np.random.default_rng(0).standard_normal((2, 2, 3, 2, 5))
    value, slope = of_torch(lambda y, t: F.huber_loss(y, t, delta=delta), y, targets)
    loss, dy = in_float64(Huber(delta), y, targets)
    assert loss == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(dy, slope, rtol=1e-13)
    check_gradient(Huber(delta), y, targets)


def test_huge_outputs():
    y = logits([[3e38, -3e38]], np.float32)  # differences are beyond float32
    dy = np.empty_like(y)
    assert Huber(2.0).loss_cpu(y, -y, dy) == pytest.approx(2 * 2 * float(y[0, 0, 0, 0]))
    np.testing.assert_array_equal(dy, logits([[1, -1]]))
    for bad in (np.inf, -np.inf, np.nan):
        assert not np.isfinite(Huber().loss_cpu(logits([[bad, 0]], np.float32), y, dy))


@pytest.mark.parametrize("delta", [0, -1, np.inf, np.nan, "1", None, True])
def test_a_delta_that_is_none(delta):
    with pytest.raises(MinetError, match=r"delta must be a finite number above 0, got .*\n  hint: Huber\(d"):
        Huber(delta)


def test_targets_must_fit():
    Huber().check(np.zeros((3, 2, 2, 4), np.uint8), (3, 2, 2), 4)
    with pytest.raises(MinetError, match=r"must have the output's shape .* \(3, 2, 2, 4\), got \(4,\)"):
        Huber().check(np.zeros(4), (3, 2, 2), 4)


# -- on a GPU, against the cpu ------------------------------------------------------------------------


@pytest.fixture
def be(gpu_backend):
    return backends.get(gpu_backend)


@DELTAS
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 2, 7), (5, 13, 11, 37)])  # the last: more than SHARES
def test_on_a_gpu(be, shape, delta):
    y, targets = np.random.default_rng(shape).standard_normal((2, *shape)).astype(np.float32)
    loss, expected = in_float64(Huber(delta), y, targets)
    got, dy = on(be, Huber(delta), y, targets)
    assert got == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(dy, expected, rtol=1e-6)


def test_huge_outputs_on_a_gpu(be):
    y = logits([[3e38, -3e38]])
    loss, dy = on(be, Huber(2.0), y, -y)
    assert loss == pytest.approx(2 * 2 * 3e38)
    np.testing.assert_array_equal(dy, logits([[1, -1]]))
    assert on(be, Huber(), logits([[np.inf, 0]]), y)[0] == math.inf
    loss, dy = on(be, Huber(), logits([[np.nan, 0]]), y)
    assert math.isnan(loss) and math.isnan(dy[0, 0, 0, 0])
