"""SoftmaxCrossEntropy against values by hand, SciPy, PyTorch and central differences; its kernels."""

import copy
import math
import pickle

import numpy as np
import pytest
from of_losses import check_gradient, in_float64, logits, of_torch, on
from scipy.special import log_softmax

from minet import SGD, MeanSquaredError, MinetError, Net, SoftmaxCrossEntropy, Trainer, backends
from minet.core.init import Gaussian
from minet.core.loss import correct
from minet.data import Dataset
from minet.layers import Conv, Linear, PReLU
from minet.train.trainer import evaluate

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
WEIGHTS = [None, (0.5, 2.0, 0.0, 1.0)]


def cases():
    """Labels of every form for an output (4, P, Q): class numbers with some ignored, and probabilities."""
    rng = np.random.default_rng(7)
    for shape in ((1, 1, 9), (3, 2, 5)):
        y = 3 * rng.standard_normal((4, *shape))
        numbers = rng.integers(-1, 4, shape)
        shares = rng.uniform(0, 1, (4, *shape))
        shares /= shares.sum(axis=0)
        yield y, numbers[0, 0] if shape[0] == 1 else numbers
        yield y, numbers[np.newaxis]
        yield y, shares


CASES = [pytest.param(*case, id=f"{case[1].dtype}{case[1].shape}") for case in cases()]
SETTINGS = [pytest.param(s, w, id=f"{s}-{w}") for s in (0.0, 0.1, 0.9) for w in WEIGHTS]


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
        ([0, 1, -2], (3, 1, 1), r"label -2 at index 2 is not one.*\n.*, and -1 is ignored"),
        (np.full((3, 1, 1, 3), -1), (3, 1, 1), r"must be 3 class numbers, .* got shape \(3, 1, 1, 3\)"),
        ([0, 1], (3, 1, 1), r"must be 3 class numbers, one per sample, got shape \(2,\)"),
        (np.eye(3, dtype=int), (3, 1, 1), r"(?s)got shape \(3, 3\).*hint: turn one-hot"),
        ([0.0, 1.0, 2.0], (3, 1, 1), "labels must be integers, got float64"),
        ([True, False, True], (3, 1, 1), "labels must be integers, got bool"),
        (
            [0, 1, 2],
            (3, 2, 2),
            r"needs an output of shape \(K, 1, 1\), got \(3, 2, 2\)\n.*label, \(2, 2, 3\)",
        ),
        (
            np.full((2, 2, 3), 3),
            (3, 2, 2),
            r"label 3 at index \(0, 0, 0\) is not one of the 3 classes 0 \.\. 2",
        ),
        (np.zeros((2, 2, 3)), (3, 2, 2), "labels must be integers, got float64"),
        (
            np.zeros((3, 2, 2), int),
            (3, 2, 2),
            r"must be \(2, 2, 3\) class numbers, one per position and sample, ",
        ),
        (
            np.eye(3)[:, None, None] - 1,
            (3, 1, 1),
            r"must be 0 or more, got -1\.0 at index \(0, 0, 0, 1\)\n  hint: ",
        ),
        (np.full((3, 2, 2, 3), np.nan), (3, 2, 2), "must be 0 or more, got nan"),
        (
            np.full((3, 2, 2, 3), 0.3),
            (3, 2, 2),
            r"must sum to 1, but those at .* \(0, 0, 0\) sum to 0\.9: got shape",
        ),
        (np.full((2, 1, 1, 3), 0.5), (3, 1, 1), r"must be 3 class numbers.* got shape \(2, 1, 1, 3\)"),
    ],
)
def test_cross_entropy_errors(labels, out_shape, message):
    with pytest.raises(MinetError, match=message):
        SoftmaxCrossEntropy().check(np.array(labels), out_shape, 3)


@pytest.mark.parametrize("labels", [np.array([0, 2, -1], np.int8), np.array([0, 2, 1], np.uint8)])
def test_labels_that_fit(labels):
    SoftmaxCrossEntropy().check(labels, (3, 1, 1), 3)
    SoftmaxCrossEntropy(0.1, [1, 2, 3]).check(np.tile(labels, (2, 4, 1)), (3, 2, 4), 3)
    SoftmaxCrossEntropy().check(np.full((3, 2, 4, 3), 1 / 3, np.float16), (3, 2, 4), 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smoothing": 1}, "smoothing must be a number from 0 to below 1, got 1"),
        ({"smoothing": -0.1}, "got -0.1"),
        ({"smoothing": np.nan}, "got nan"),
        ({"smoothing": None}, "got None"),
        ({"weights": 1.0}, r"weights must be K numbers, one per class, got float64 \(\)"),
        ({"weights": ["a"]}, "weights must be K numbers, one per class, got <U1"),
        ({"weights": [1, -1, 2]}, "none below 0 and not all of them 0, got -1 for class 1"),
        ({"weights": [1, 2, np.inf]}, "weights must be finite, .* got inf for class 2"),
        ({"weights": [0, 0]}, "got 0 for all classes"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(MinetError, match=rf"test_softmax_cross_entropy\.py:\d+\)\n.*{message}"):
        SoftmaxCrossEntropy(**settings)


def test_weights_of_another_number():
    with pytest.raises(
        MinetError, match=r"there are 2 weights for 3 classes, an output of \(3, 1, 1\)\n  hint"
    ):
        SoftmaxCrossEntropy(weights=[1, 2]).check(np.array([0, 1]), (3, 1, 1), 2)


# -- smoothing, weights, ignored labels, probabilities, maps ------------------------------------------


def test_smoothing_weights_and_ignored_labels_by_hand():
    y = logits([[0, math.log(3), 5], [0, 0, 7]])  # p = 1/2, 3/4 for the first class
    labels, dy = np.array([0, 1, -1]), np.empty((2, 1, 1, 3))
    loss = SoftmaxCrossEntropy().loss_cpu(y, labels, dy)
    assert loss == pytest.approx((math.log(2) + math.log(4)) / 2)
    np.testing.assert_allclose(dy, logits([[-0.25, 0.375, 0], [0.25, -0.375, 0]]))
    loss = SoftmaxCrossEntropy(weights=[1, 3]).loss_cpu(y, labels, dy)
    assert loss == pytest.approx((math.log(2) + 3 * math.log(4)) / 4)
    np.testing.assert_allclose(dy, logits([[-0.5, 2.25, 0], [0.5, -2.25, 0]]) / 4)
    loss = SoftmaxCrossEntropy(smoothing=0.5).loss_cpu(y, labels, dy)  # targets 3/4, 1/4
    assert loss == pytest.approx((math.log(2) + 0.75 * math.log(4) + 0.25 * math.log(4 / 3)) / 2)
    np.testing.assert_allclose(dy, logits([[-0.25, 0.5, 0], [0.25, -0.5, 0]]) / 2)
    targets = logits([[0.5, 0, 0.5], [0.5, 1, 0.5]])
    loss = SoftmaxCrossEntropy(weights=[1, 3]).loss_cpu(y[..., :2], targets[..., :2], dy[..., :2])
    assert loss == pytest.approx((2 * math.log(2) + 3 * math.log(4)) / 2)
    np.testing.assert_allclose(dy[..., :2], logits([[0.5, 2.25], [-0.5, -2.25]]) / 2)


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
@pytest.mark.parametrize(("y", "labels"), CASES)
def test_every_form_equals_pytorchs(y, labels, smoothing, weights):
    torch = pytest.importorskip("torch")

    def cross_entropy(y, labels):
        given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        labels = labels[:, 0] if labels.ndim == 4 and not labels.is_floating_point() else labels
        y = y[:, :, 0, 0] if labels.ndim == 1 else y
        how = {"label_smoothing": smoothing, "ignore_index": -1}
        return torch.nn.functional.cross_entropy(y, labels, given, **how)

    value, slope = of_torch(cross_entropy, y, labels)
    loss = SoftmaxCrossEntropy(smoothing, weights)
    loss.check(labels, y.shape[:3], y.shape[3])
    got, dy = in_float64(loss, y, labels)
    assert got == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(dy, slope, rtol=1e-12, atol=1e-15)
    check_gradient(loss, y, labels)


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
def test_of_no_known_label_all_is_0(smoothing, weights, backend):
    y, be = np.ones((4, 2, 3, 5), np.float32), backends.get(backend)
    numbers = [np.full((2, 3, 5), -1)] + ([np.full((2, 3, 5), 2)] if weights else [])  # of weight 0
    for labels in numbers:
        dy = be.array(np.full(y.shape, np.nan))
        assert be.run(SoftmaxCrossEntropy(smoothing, weights).on(be), "loss", be.array(y), labels, dy) == 0
        assert not be.get(dy).any()


def test_a_bad_logit_shows_where_the_label_is_ignored(backend):
    be, y = backends.get(backend), np.ones((3, 2, 2, 3), np.float32)
    y[1, 0, 1, 2] = np.inf
    for labels in (np.full((2, 2, 3), -1), np.where(np.isinf(y[1]), -1, 0), np.full(y.shape, 1 / 3)):
        dy = be.array(np.zeros(y.shape))
        assert math.isnan(be.run(SoftmaxCrossEntropy(0.1).on(be), "loss", be.array(y), labels, dy))
        assert np.isnan(be.get(dy)).all()


def test_many_positions_are_computed_in_parts(monkeypatch):
    y, labels = (
        3 * np.random.default_rng(0).standard_normal((3, 4, 5, 7)),
        np.arange(140).reshape(4, 5, 7) % 4 - 1,
    )
    loss = SoftmaxCrossEntropy(0.1, [1, 2, 3])
    whole, dy = in_float64(loss, y, labels)
    monkeypatch.setattr("minet.core.loss.softmax_cross_entropy.CHUNK", 33)
    parts, slope = in_float64(loss, y, labels)
    assert parts == whole
    np.testing.assert_array_equal(dy, slope)


def test_a_copy_keeps_its_settings_and_not_its_device(backend):
    be = backends.get(backend)
    loss = SoftmaxCrossEntropy(0.1, [1, 2]).on(be)
    y, labels = be.array(logits([[1, 2], [0, 5]])), np.array([1, 0])
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert not hasattr(other, "be") and repr(other) == "SoftmaxCrossEntropy(0.1, [1, 2])"
        assert be.run(other.on(be), "loss", y, labels) == be.run(loss, "loss", y, labels)


# -- on a GPU, against the cpu ------------------------------------------------------------------------


@pytest.fixture
def be(gpu_backend):
    return backends.get(gpu_backend)


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


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
@pytest.mark.parametrize(("y", "labels"), CASES)
def test_every_form_on_a_gpu(be, y, labels, smoothing, weights):
    loss = SoftmaxCrossEntropy(smoothing, weights)
    value, expected = in_float64(loss, y.astype(np.float32), labels)
    got, dy = on(be, loss, y, labels)
    assert got == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(dy, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_more_positions_than_threads_on_a_gpu(be, monkeypatch):
    monkeypatch.setattr("minet.core.loss.softmax_cross_entropy.BLOCKS", 2)
    y = np.random.default_rng(0).standard_normal((2, 13, 11, 7)).astype(np.float32)
    labels = np.arange(1001).reshape(13, 11, 7) % 3 - 1
    value, expected = in_float64(SoftmaxCrossEntropy(), y, labels)
    got, dy = on(be, SoftmaxCrossEntropy(), y, labels)
    assert got == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(dy, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


# -- the count, and training --------------------------------------------------------------------------


def test_metrics_are_what_a_loss_declares():
    y = logits([[1, 0, 5], [0, 2, 1]])
    assert SoftmaxCrossEntropy().metrics(y, np.array([0, 0, 0])) == {"accuracy": 2 / 3}
    assert SoftmaxCrossEntropy().metrics(y, np.array([0, -1, -1])) == {"accuracy": 1}
    assert SoftmaxCrossEntropy().metrics(y, np.array([-1, -1, -1])) == {"accuracy": 0}
    assert SoftmaxCrossEntropy().metrics(y, logits([[0.6, 1, 0], [0.4, 0, 1]])) == {"accuracy": 1 / 3}
    assert MeanSquaredError().metrics(y, y) == {}


def test_how_many_a_mean_is_over():
    labels = np.array([[0, 1, 1, -1], [-1, 2, 1, -1]])[np.newaxis]
    assert SoftmaxCrossEntropy().count(labels, "loss") == SoftmaxCrossEntropy().count(labels, "accuracy") == 5
    weighted = SoftmaxCrossEntropy(weights=[0.5, 2, 4])
    assert weighted.count(labels, "loss") == 0.5 + 3 * 2 + 4 and weighted.count(labels, "accuracy") == 5
    assert weighted.count(np.full((3, 2, 2, 5), 1 / 3), "loss") == 20
    assert MeanSquaredError().count(np.zeros((3, 2, 2, 5)), "loss") == 5


def test_correct():
    y = logits([[1, 5, 0, 7, np.nan], [2, 5, 1, 0, 0], [0, 1, 1, 0, 1]])
    assert correct(y, np.array([1, 0, 1, 0, 0])) == 4  # the first of equals; a NaN is no answer
    assert correct(y, np.array([1, 1, 2, 0, 2])) == 2
    assert correct(y, np.array([-1, -1, -1, 0, -1])) == 1
    assert correct(y.reshape(3, 5), np.array([1, 0, 1, 0, 0])) == 4
    y = np.moveaxis(np.eye(3)[[[0, 1], [2, 0]]], -1, 0)[..., np.newaxis]  # (3, 2, 2, 1)
    assert correct(y, np.array([[[0], [2]], [[-1], [0]]])) == 2


def test_a_net_learns_with_either_loss():
    x = np.random.default_rng(0).standard_normal((4, 1, 1, 20)).astype(np.float32)
    classes = (x[0, 0, 0] > 0).astype(int)
    targets = np.stack([1 - classes, classes]).reshape(2, 1, 1, 20)
    for loss, labels in ((SoftmaxCrossEntropy(), classes), (MeanSquaredError(), targets)):
        net, solver = Net([Linear(2, init=Gaussian(0.1))], (4, 1, 1), 20, loss), SGD(lr=0.5)
        losses = [net.train_step(x, labels, solver) for _ in range(50)]
        assert losses[-1] < losses[0] / 2
        assert correct(net.fprop(x), classes) >= 19


@pytest.mark.parametrize("batch", [1, 4, 7, 30])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_test_counts_each_known_label_once_in_batches_of_any_size(batch, weights):
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((23, 4, 3, 2)).astype(np.float32), rng.integers(-1, 4, (23, 3, 2))
    labels[:5] = -1  # whole batches, and an image
    net = Net([PReLU()], (4, 3, 2), batch, SoftmaxCrossEntropy(weights=weights), dtype="float64")
    loss, metrics = evaluate(net, Dataset(images, labels))
    y = np.moveaxis(net.predict(images), 0, -1).astype(float)
    whole = np.moveaxis(labels, 0, -1)
    assert loss == pytest.approx(net.loss.loss_cpu(y, whole), rel=1e-12)
    assert metrics == {"accuracy": pytest.approx(correct(y, whole) / np.count_nonzero(labels != -1))}


def test_labels_that_are_all_ignored_are_refused_before_training():
    data = Dataset(np.zeros((6, 3, 2)), np.full((6, 3, 2), -1))
    with pytest.raises(MinetError, match=r"data set: the loss ignores every label\n  hint: -1 marks"):
        Trainer(Net(Conv(2, 1), (1, 3, 2), 3, SoftmaxCrossEntropy()), SGD(0.1), data)


@pytest.mark.slow
def test_a_segmentation_with_unknown_positions_learns(backend):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((60, 2, 6, 5)).astype(np.float32)
    labels = np.where(images[:, 0] > 0.3, 2, images[:, 1] > 0).astype(np.int16)  # (M, P, Q): three classes
    unknown = rng.uniform(size=labels.shape) < 0.3
    given = np.where(unknown, -1, labels)
    train, test = (Dataset(images[part], given[part], classes=3) for part in (slice(48), slice(48, None)))
    graph = [Conv(8, 1, init=Gaussian(0.5)), PReLU(), Conv(3, 1, init=Gaussian(0.5))]
    net = Net(graph, (2, 6, 5), 8, SoftmaxCrossEntropy(smoothing=0.02), backend)
    run = Trainer(net, SGD(0.3, momentum=0.9), train, test, 10 if backend == "cpu" else 3)
    result = run.fit()
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    right = (net.predict(images[48:]).argmax(axis=1) == labels[48:]) & ~unknown[48:]
    assert result.accuracy == pytest.approx(right.sum() / (~unknown[48:]).sum())
    assert result.accuracy > (0.9 if backend == "cpu" else 0.6)


def test_probabilities_of_a_dataset_are_learned():
    images = np.random.default_rng(0).standard_normal((40, 1, 2, 2)).astype(np.float32)
    p = 1 / (1 + np.exp(-3 * images[:, 0, 0, 0]))
    data = Dataset(images, np.stack([1 - p, p], axis=1))
    run = Trainer(Net(Linear(2), (1, 2, 2), 8, SoftmaxCrossEntropy()), SGD(1.0), data, data, 20)
    assert run.fit().accuracy > 0.9
