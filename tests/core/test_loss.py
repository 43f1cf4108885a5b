"""Losses against values worked out by hand, SciPy and central differences; the count of correct answers."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax

from minet import MinetError, Net, backends
from minet.core.init import Gaussian
from minet.core.loss import MeanSquaredError, SoftmaxCrossEntropy, correct
from minet.layers import Linear
from minet.train.optim import SGD

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def logits(rows, dtype=float):
    """K rows of N values, shaped like a net's output."""
    y = np.array(rows, dtype)
    return y.reshape(len(y), 1, 1, -1)


def check_gradient(loss, y, labels):
    dy = np.full_like(y, np.nan)
    loss.loss_cpu(y, labels, dy)
    for index in np.ndindex(y.shape):
        step = np.zeros_like(y)
        step[index] = 1e-6
        slope = (loss.loss_cpu(y + step, labels) - loss.loss_cpu(y - step, labels)) / 2e-6
        assert dy[index] == pytest.approx(slope, abs=1e-8)


@DTYPES
def test_cross_entropy_by_hand(dtype):
    y, dy = logits([[0, math.log(3)], [0, 0]], dtype), logits([[np.nan, np.nan]] * 2, dtype)
    loss = SoftmaxCrossEntropy().loss_cpu(y, np.array([1, 0]), dy)
    assert loss == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, rel=1e-6)
    np.testing.assert_allclose(dy, logits([[0.25, -0.125], [-0.25, 0.125]]), rtol=1e-6)
    assert dy.dtype == dtype


@DTYPES
def test_cross_entropy_equals_scipys(dtype):
    rng = np.random.default_rng(0)
    y = logits(5 * rng.standard_normal((10, 33)), dtype)
    labels = rng.integers(10, size=33)
    before = y.copy()
    expected = -log_softmax(y.reshape(10, 33).astype(float), axis=0)[labels, np.arange(33)].mean()
    assert SoftmaxCrossEntropy().loss_cpu(y, labels) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(y, before)


def test_cross_entropy_gradient():
    rng = np.random.default_rng(0)
    check_gradient(SoftmaxCrossEntropy(), rng.standard_normal((4, 1, 1, 3)), np.array([0, 3, 3], np.uint8))


@pytest.mark.parametrize("size", [1e4, 3e38])
def test_cross_entropy_of_huge_logits(size):
    y, dy = logits([[size, -size], [-size, -size]], np.float32), np.empty((2, 1, 1, 2), np.float32)
    assert SoftmaxCrossEntropy().loss_cpu(y, np.array([0, 1]), dy) == pytest.approx(math.log(2) / 2)
    np.testing.assert_allclose(dy, logits([[0, 0.25], [0, -0.25]]))
    wrong = SoftmaxCrossEntropy().loss_cpu(y, np.array([1, 1]))
    assert wrong == pytest.approx(size, rel=1e-4)  # (2 * size + log 2) / 2: large, and finite


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_cross_entropy_of_a_logit_that_is_not_finite(bad):
    y, dy = logits([[0, 1], [bad, 2]]), np.zeros((2, 1, 1, 2))
    assert math.isnan(SoftmaxCrossEntropy().loss_cpu(y, np.array([0, 0]), dy))
    assert np.isnan(dy).all()


@pytest.mark.parametrize(
    ("labels", "out_shape", "message"),
    [
        ([0, 3, 1], (3, 1, 1), r"label 3 at index 1 is not one of the 3 classes 0 \.\. 2"),
        ([0, 1, -1], (3, 1, 1), "label -1 at index 2 is not one"),
        ([0, 1], (3, 1, 1), r"must be 3 class numbers, one per sample, got shape \(2,\)"),
        (np.eye(3, dtype=int), (3, 1, 1), r"(?s)got shape \(3, 3\).*hint: turn one-hot"),
        ([0.0, 1.0, 2.0], (3, 1, 1), "labels must be integers, got float64"),
        ([True, False, True], (3, 1, 1), "labels must be integers, got bool"),
        ([0, 1, 2], (3, 2, 2), r"needs an output of shape \(K, 1, 1\), got \(3, 2, 2\)"),
    ],
)
def test_cross_entropy_errors(labels, out_shape, message):
    with pytest.raises(MinetError, match=message):
        SoftmaxCrossEntropy().check(np.array(labels), out_shape, 3)


def test_labels_that_fit():
    SoftmaxCrossEntropy().check(np.array([0, 2, 1], np.uint8), (3, 1, 1), 3)
    MeanSquaredError().check(np.zeros((3, 2, 2, 4), np.float32), (3, 2, 2), 4)


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


# -- on a GPU, against the cpu ------------------------------------------------------------------------


@pytest.fixture
def be(gpu_backend):
    return backends.get(gpu_backend)


def on(be, loss, y, labels):
    """The loss and dy from a kernel, given y in float32 and a dy of NaN."""
    assert be.how(type(loss), "loss")[0] == "method"
    y = be.array(np.array(y, np.float32))
    dy = be.array(np.full(y.shape, np.nan, np.float32))
    loss = loss.on(be)
    value = be.run(loss, "loss", y, labels, dy)
    assert be.run(loss, "loss", y, labels) == value or math.isnan(value)  # without a dy
    return value, be.get(dy)


@pytest.mark.parametrize("batch", [1, 33, 300])
@pytest.mark.parametrize("classes", [1, 10, 67])
def test_cross_entropy_on_a_gpu(be, classes, batch):
    rng = np.random.default_rng([classes, batch])
    y = (5 * rng.standard_normal((classes, 1, 1, batch))).astype(np.float32)
    labels = rng.integers(classes, size=batch)
    expected = np.empty_like(y)
    loss = SoftmaxCrossEntropy().loss_cpu(y, labels, expected)
    got, dy = on(be, SoftmaxCrossEntropy(), y, labels)
    assert got == pytest.approx(loss, rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(dy, expected, rtol=1e-5, atol=1e-6 / batch)


@pytest.mark.parametrize("size", [1e4, 3e38])
def test_cross_entropy_of_huge_logits_on_a_gpu(be, size):
    y = logits([[size, -size], [-size, -size]])
    loss, dy = on(be, SoftmaxCrossEntropy(), y, np.array([0, 1]))
    assert loss == pytest.approx(math.log(2) / 2)
    np.testing.assert_allclose(dy, logits([[0, 0.25], [0, -0.25]]))
    assert on(be, SoftmaxCrossEntropy(), y, np.array([1, 1]))[0] == pytest.approx(size, rel=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_cross_entropy_of_a_logit_that_is_not_finite_on_a_gpu(be, bad, place):
    y = np.zeros((3, 1, 1, 40))
    y[place, ..., 33] = bad
    loss, dy = on(be, SoftmaxCrossEntropy(), y, np.zeros(40, int))
    assert math.isnan(loss) and np.isnan(dy).all()


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


# -- the count ----------------------------------------------------------------------------------------


def test_metrics_are_what_a_loss_declares():
    y = logits([[1, 0, 5], [0, 2, 1]])
    assert SoftmaxCrossEntropy().metrics(y, np.array([0, 0, 0])) == {"accuracy": 2 / 3}
    assert MeanSquaredError().metrics(y, y) == {}


def test_correct():
    y = logits([[1, 5, 0, 7, np.nan], [2, 5, 1, 0, 0], [0, 1, 1, 0, 1]])
    assert correct(y, np.array([1, 0, 1, 0, 0])) == 4  # the first of equals; a NaN is no answer
    assert correct(y, np.array([1, 1, 2, 0, 2])) == 2
    assert correct(y, np.array([-1, -1, -1, 0, -1])) == 1
    assert correct(y.reshape(3, 5), np.array([1, 0, 1, 0, 0])) == 4


def test_a_net_learns_with_either_loss():
    x = np.random.default_rng(0).standard_normal((4, 1, 1, 20)).astype(np.float32)
    classes = (x[0, 0, 0] > 0).astype(int)
    targets = np.stack([1 - classes, classes]).reshape(2, 1, 1, 20)
    for loss, labels in ((SoftmaxCrossEntropy(), classes), (MeanSquaredError(), targets)):
        net, solver = Net([Linear(2, init=Gaussian(0.1))], (4, 1, 1), 20, loss), SGD(lr=0.5)
        losses = [net.train_step(x, labels, solver) for _ in range(50)]
        assert losses[-1] < losses[0] / 2
        assert correct(net.fprop(x), classes) >= 19
