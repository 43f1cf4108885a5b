"""BinaryCrossEntropy against values worked out by hand, central differences and PyTorch; its kernel."""

import math

import numpy as np
import pytest
from of_losses import check_gradient, in_float64, logits, of_torch, on

from minet import SGD, BinaryCrossEntropy, MinetError, Net, Trainer, backends
from minet.data import Dataset
from minet.layers import Linear


def drawn(shape):
    rng = np.random.default_rng(shape)
    return (5 * rng.standard_normal(shape)).astype(np.float32), rng.uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_hand(dtype):
    y, targets = logits([[0, math.log(3)], [0, -math.log(3)]], dtype), logits([[1, 1], [0.25, 1]])
    dy = np.full_like(y, np.nan)
    # log 2, -log(3/4), log 2 whatever the target, -log(1/4)
    loss = BinaryCrossEntropy().loss_cpu(y, targets, dy)
    assert loss == pytest.approx((math.log(2) + math.log(4 / 3) + math.log(2) + math.log(4)) / 4, rel=1e-6)
    np.testing.assert_allclose(dy, logits([[-0.5, -0.25], [0.25, -0.75]]) / 4, rtol=1e-6)
    assert dy.dtype == dtype


def test_it_equals_pytorchs():
    F = pytest.importorskip("torch").nn.functional
    for shape in ((3, 2, 4, 5), (2, 1, 1, 6)):
        y, targets = (values.astype(float) for values in drawn(shape))
        for given in (targets, np.round(targets)):
            value, slope = of_torch(F.binary_cross_entropy_with_logits, y, given)
            loss, dy = in_float64(BinaryCrossEntropy(), y, given)
            assert loss == pytest.approx(value, rel=1e-14)
            np.testing.assert_allclose(dy, slope, rtol=1e-11)
            check_gradient(BinaryCrossEntropy(), y, given)


@pytest.mark.parametrize("size", [100, 1e4, 3e38])
def test_huge_logits(size, backend):
    y, sure = logits([[size, -size]]), logits([[1, 0]])
    be = backends.get(backend)

    def of(targets):
        dy = be.array(np.full(y.shape, np.nan, np.float32))
        return be.run(BinaryCrossEntropy().on(be), "loss", be.array(y), targets, dy), be.get(dy)

    loss, dy = of(sure)
    assert 0 <= loss < 1e-40
    np.testing.assert_allclose(dy, 0, atol=1e-40)
    loss, dy = of(1 - sure)
    assert loss == pytest.approx(size)
    np.testing.assert_array_equal(dy, logits([[0.5, -0.5]]))


def test_a_slope_close_to_0_keeps_its_digits(backend):
    be, y = backends.get(backend), logits([[20, -20]])
    dy = be.array(np.empty(y.shape))
    be.run(BinaryCrossEntropy().on(be), "loss", be.array(y), logits([[1, 0]]), dy)
    tail = 1 / (1 + math.exp(20)) / 2
    np.testing.assert_allclose(be.get(dy), logits([[-tail, tail]]), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_a_logit_that_is_not_finite(bad, target, backend):
    be = backends.get(backend)
    y = be.array(logits([[0, bad], [1, 2]]))
    loss = be.run(BinaryCrossEntropy().on(be), "loss", y, np.full((2, 1, 1, 2), target), be.empty(y.shape))
    assert not math.isfinite(loss)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([[0, 1], [1.5, 0]], r"targets must lie in 0 \.\. 1, got 1\.5 at index \(1, 0, 0, 0\)\n  hint: 1 is"),
        ([[0, 1], [1, -1]], r"got -1 at index \(1, 0, 0, 1\)"),
        ([[0, np.nan], [1, 0]], r"got nan at index \(0, 0, 0, 1\)"),
        ([[0, 1]], r"must have the output's shape \(K, P, Q, N\) = \(2, 1, 1, 2\), got \(1, 1, 1, 2\)"),
        ([[True, False], [True, False]], "targets must be real numbers, got bool"),
    ],
)
def test_targets_that_do_not_fit(targets, message):
    with pytest.raises(MinetError, match=message):
        BinaryCrossEntropy().check(logits(targets, None), (2, 1, 1), 2)


def test_whole_numbers_are_targets():
    BinaryCrossEntropy().check(np.ones((2, 3, 4, 5), np.uint8), (2, 3, 4), 5)


def test_the_accuracy_counts_elements():
    y = logits([[1, -1, 0, np.nan], [2, -3, 5, np.nan]])
    targets = logits([[1, 0, 0, 0], [0.4, 0.6, 1, 1]])
    assert BinaryCrossEntropy().metrics(y, targets) == {"accuracy": 4 / 8}


def test_a_mask_of_a_dataset_is_learned():
    images = np.random.default_rng(0).standard_normal((48, 1, 3, 3)).astype(np.float32)
    masks = np.stack([images[:, 0, 0, 0] > 0, images[:, 0, 1, 1] < 0], axis=1).astype(np.uint8)  # (M, K)
    train, test = (Dataset(images[part], masks[part]) for part in (slice(40), slice(40, None)))
    run = Trainer(Net(Linear(2), (1, 3, 3), 5, BinaryCrossEntropy()), SGD(0.5), train, test, 15)
    assert run.fit().accuracy > 0.9


# -- on a GPU, against the cpu ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 2, 7), (5, 13, 11, 37)])  # the last: more than SHARES
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.uint8])
def test_on_a_gpu(gpu_backend, shape, kind):
    y, targets = drawn(shape)
    targets = np.round(targets).astype(kind) if kind == np.uint8 else targets.astype(kind)
    loss, expected = in_float64(BinaryCrossEntropy(), y, targets)
    got, dy = on(backends.get(gpu_backend), BinaryCrossEntropy(), y, targets)
    assert got == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(dy, expected, rtol=1e-5, atol=1e-6 / y.size)
