"""MeanSquaredError against values worked out by hand, central differences and PyTorch; its kernel."""

import math

import numpy as np
import pytest
from of_losses import check_gradient, logits, of_torch, on

from minet import MeanSquaredError, MinetError, backends

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@DTYPES
def test_mean_squared_error_by_hand(dtype):
    y, targets = logits([[1, 2], [3, 4]], dtype), logits([[1, 0], [0, 4]])
    dy = np.full_like(y, np.nan)
    assert MeanSquaredError().loss_cpu(y, targets, dy) == (4 + 9) / 4
    np.testing.assert_array_equal(dy, logits([[0, 1], [1.5, 0]]))


def test_mean_squared_error_gradient():
    y, targets = np.random.default_rng(0).standard_normal((2, 2, 3, 2, 2))
    check_gradient(MeanSquaredError(), y, targets)


def test_mean_squared_error_of_huge_outputs():
    y = logits([[1e20, 0]], np.float32)  # its square is beyond float32
    assert MeanSquaredError().loss_cpu(y, np.zeros_like(y)) == pytest.approx(5e39)
    y = logits([[3e38, np.inf]], np.float32)
    assert MeanSquaredError().loss_cpu(y, -y, np.empty_like(y)) == math.inf


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            np.zeros((3, 4)),
            r"must have the output's shape \(K, P, Q, N\) = \(3, 1, 1, 4\), got \(3, 4\)",
        ),
        (np.zeros((4, 3, 1, 1)), r"got \(4, 3, 1, 1\)\n  hint: for targets in NCHW order: .*transpose"),
        (np.zeros((2, 1, 1, 4)), r"hint: the net must end with an output of shape \(2, 1, 1\)"),
        (np.zeros(4, int), r"hint: whole numbers \(M,\) are classes: give the Dataset targets\.astype"),
        (np.zeros((3, 1, 1, 4), complex), "targets must be real numbers, got complex128"),
    ],
)
def test_mean_squared_error_errors(targets, message):
    with pytest.raises(MinetError, match=message):
        MeanSquaredError().check(targets, (3, 1, 1), 4)


def test_mean_squared_error_equals_pytorchs():
    F = pytest.importorskip("torch").nn.functional
    y, targets = np.random.default_rng(0).standard_normal((2, 2, 3, 2, 5))
    dy = np.empty_like(y)
    value, slope = of_torch(F.mse_loss, y, targets)
    assert MeanSquaredError().loss_cpu(y, targets, dy) == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(dy, slope, rtol=1e-13)


# -- on a GPU, against the cpu ------------------------------------------------------------------------


@pytest.fixture
def be(gpu_backend):
    return backends.get(gpu_backend)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 2, 7), (5, 13, 11, 37)])  # the last: more than SHARES
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_mean_squared_error_on_a_gpu(be, shape, dtype):
    rng = np.random.default_rng(shape)
    y, targets = rng.standard_normal(shape).astype(np.float32), rng.uniform(0, 9, shape).astype(dtype)
    expected = np.empty_like(y)
    loss = MeanSquaredError().loss_cpu(y, targets, expected)
    got, dy = on(be, MeanSquaredError(), y, targets)
    assert got == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(dy, expected, rtol=1e-5, atol=1e-6 / y.size)


def test_mean_squared_error_of_huge_outputs_on_a_gpu(be):
    y = logits([[1e20, 0]])
    assert on(be, MeanSquaredError(), y, np.zeros_like(y))[0] == pytest.approx(5e39)
    assert on(be, MeanSquaredError(), 3 * y, np.full_like(y, np.inf))[0] == math.inf
