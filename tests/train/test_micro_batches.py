"""A batch in parts, one after another: the step of the whole batch, in an order that does not change."""

from __future__ import annotations

import numpy as np
import pytest

from minet import SGD, MeanSquaredError, Net, Sequential, SoftmaxCrossEntropy, State, data
from minet.core.errors import MinetError
from minet.core.finite import NotFiniteError
from minet.core.node import LayerError
from minet.layers import BatchNorm, Conv, Dropout, GaussianPool, Identity, Linear, PReLU, StochasticPool
from minet.train.alone import Alone
from minet.train.callbacks import Callback
from minet.train.micro_batches import MicroSteps, micro_batch
from minet.train.trainer import Trainer

LABELS = np.array([0, 1, -1, 2, 1, 0, 2, -1, -1, -1, -1, 1])


def graph(norm=False):
    pools = [GaussianPool(3, stride=1, pad=1, kernels=2), StochasticPool(2)]
    norms = [BatchNorm()] if norm else []
    return Sequential(Conv(4, 3, pad=1), *norms, PReLU(), *pools, Dropout(0.2), Linear(3))


def made(count, backend="cpu", dtype="float64", **options):
    net = Net(graph(**options), (1, 6, 6), 12 // count, SoftmaxCrossEntropy(), backend, seed=3, dtype=dtype)
    if count > 1:
        net.steps = MicroSteps(net, count)
    return net


def batch(seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal((1, 6, 6, 12)).astype(dtype)


def values(net):
    return {path: np.array(net.be.get(a)) for path, a in {**net.params, **net.persistent}.items()}


def steps(net, count=4, **options):
    solver = SGD(0.1, momentum=0.9)
    return [net.train_step(batch(i, net.be.dtype), LABELS, solver) for i in range(count)]


@pytest.mark.parametrize("count", [2, 3, 4, 12])
def test_parts_are_the_whole_batch(count):
    """Dropout and stochastic pooling draw by sample; the last part of four has no label at all but one."""
    whole, parts = made(1), made(count)
    assert steps(parts) == pytest.approx(steps(whole), rel=1e-12)
    for path, value in values(whole).items():
        np.testing.assert_allclose(values(parts)[path], value, rtol=1e-10, atol=1e-14, err_msg=path)
    assert parts.clock.step == 4 and parts.clock.part is None
    assert parts.nbytes < whole.nbytes


def test_a_batch_without_labels_is_no_step_of_gradients():
    net = made(3)
    before = values(net)
    assert net.train_step(batch(), np.full(12, -1), SGD(0.1)) == 0
    for path, value in values(net).items():
        np.testing.assert_array_equal(value, before[path])


def test_kernels_do_the_same(gpu_backend):
    one, other = made(3, dtype="float32"), made(3, gpu_backend, dtype="float32")
    np.testing.assert_allclose(steps(other), steps(one), rtol=1e-4)
    assert "3 micro-batches" in other.steps.why and not other.steps.captured


def test_gradients_are_added_in_order():
    net = made(4, dtype="float32")
    solver = SGD(1e-9)
    net.train_step(batch(dtype="float32"), LABELS, solver)
    found, total = np.array(net.flat_grads), None
    alone = made(4, dtype="float32")
    for j in range(4):
        piece = slice(3 * j, 3 * j + 3)
        alone.clock.part = 3 * j, 12
        y = alone.fprop(np.ascontiguousarray(batch(dtype="float32")[..., piece]), train=True)
        alone.be.run(alone.loss, "loss", y, LABELS[piece], alone.dy)
        alone.be.axpby(float((LABELS[piece] >= 0).sum() / 7), alone.dy, 0.0, alone.dy)
        alone.bprop(alone.dy)
        total = np.array(alone.flat_grads) if total is None else total + alone.flat_grads
    np.testing.assert_array_equal(found, total)


def test_running_statistics_move_once_a_step_by_the_mean():
    net = made(3, norm=True)
    kept = net["1"]
    x = batch()
    conv = Net([Conv(4, 3, pad=1)], (1, 6, 6), 12, dtype="float64")
    conv.load({"0/conv.w": values(net)["0/conv.w"]}, partial=True)
    y = conv.fprop(x)
    net.train_step(x, LABELS, SGD(0.1))
    means = [y[..., 4 * j : 4 * j + 4].mean(axis=(1, 2, 3)) for j in range(3)]
    variances = [y[..., 4 * j : 4 * j + 4].var(axis=(1, 2, 3), ddof=1) for j in range(3)]
    np.testing.assert_allclose(kept.s.running_mean, (1 - kept.momentum) * np.mean(means, axis=0), rtol=1e-10)
    expected = kept.momentum + (1 - kept.momentum) * np.mean(variances, axis=0)
    np.testing.assert_allclose(kept.s.running_var, expected, rtol=1e-10)


def test_statistics_that_nothing_changes_keep_their_bits():
    net = made(3, norm=True)
    for name in ("running_mean", "running_var"):
        net["1"].s[name][...] = np.pi / 3
    net["1"].momentum = 1.0
    steps(net)
    assert (net["1"].s.running_mean == np.pi / 3).all() and (net["1"].s.running_var == np.pi / 3).all()


@pytest.mark.parametrize("sample", [0, 5, 11])
def test_what_is_not_finite_is_found_in_its_part(sample):
    net, solver = made(3, norm=True), SGD(0.1, momentum=0.9)
    net.train_step(batch(), LABELS, solver)
    before, x = values(net), batch(1)
    x[0, 2, 3, sample] = np.nan
    labels = np.zeros(12, np.int64)
    with pytest.raises(NotFiniteError, match=f"at step 1: the data is not finite, first in sample {sample} "):
        net.train_step(x, labels, solver)
    for path, value in values(net).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert net.clock.part is None and net.clock.step == 1
    assert np.isfinite(net.train_step(batch(2), labels, solver))


class Mean(Identity):
    """Follows the mean of its input in a number of a type of its own."""

    def state(self, in_shape, out_shape):
        return {"mean": State((), self.kind, per_sample=False, persistent=True)}

    def fprop(self, x, y, beta=0.0, train=True):
        super().fprop(x, y, beta, train)
        self.s.mean[...] += 0.5 * (np.mean(x) - self.s.mean)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_running_statistics_of_any_float_are_the_mean_of_the_parts(kind):
    found = []
    for count in (1, 4):
        layer = type("Mean", (Mean,), {"kind": kind})()
        net = Net([layer, Linear(3)], (1, 6, 6), 12 // count, SoftmaxCrossEntropy(), dtype="float32")
        net.steps = MicroSteps(net, count) if count > 1 else net.steps
        steps(net, 2)
        found += net.persistent.values()
    assert found[0] == pytest.approx(found[1], rel=1e-2 if kind == "float16" else 1e-5)
    assert found[0].dtype == found[1].dtype == kind


def test_targets_of_any_shape():
    targets = np.random.default_rng(1).standard_normal((2, 1, 1, 12))
    nets = [Net([Linear(2)], (1, 6, 6), 12 // count, MeanSquaredError(), dtype="float64") for count in (1, 4)]
    nets[1].steps = MicroSteps(nets[1], 4)
    one, other = ([net.train_step(batch(i), targets, SGD(0.1)) for i in range(3)] for net in nets)
    assert other == pytest.approx(one, rel=1e-12)


def test_what_is_no_batch_is_refused():
    net, solver = made(3), SGD(0.1)
    with pytest.raises(LayerError, match=r"\(1, 6, 6, 12\), got \(1, 6, 6, 13\)"):
        net.train_step(np.zeros((1, 6, 6, 13)), LABELS, solver)
    with pytest.raises(MinetError, match="12"):
        net.train_step(batch(), LABELS[:4], solver)


class Losses(Callback):
    def __init__(self):
        self.found = []

    def on_batch(self, trainer, loss):
        self.found.append(loss)


def trained(count, tmp_path, resume=None, epochs=2):
    train, test = data.digits("train", limit=100), data.digits("test", limit=40)
    ranks = Alone(count)
    net = Net([Conv(4, 3, pad=1), PReLU(), Dropout(0.3), Linear(10)], (1, 8, 8), ranks.share(24),
              SoftmaxCrossEntropy(), dtype="float64")  # fmt: skip
    losses = Losses()
    trainer = Trainer(net, SGD(0.1, momentum=0.9), train, test, epochs, [losses], ranks=ranks)
    if resume:
        trainer.resume(resume)
    trainer.fit()
    trainer.save(tmp_path / f"{count}.safetensors")
    return losses.found


def test_a_run_in_parts_and_one_that_goes_on_in_others(tmp_path):
    whole, parts = trained(1, tmp_path), trained(3, tmp_path)
    assert len(parts) == 8 and parts == pytest.approx(whole, rel=1e-10)
    trained(1, tmp_path, epochs=1)
    assert trained(4, tmp_path, tmp_path / "1.safetensors") == pytest.approx(whole[4:], rel=1e-10)


def test_a_net_takes_plain_steps_after_a_run_in_parts():
    images = data.digits("train", limit=64)
    net, parts = Net([Linear(10)], (1, 8, 8), 8, SoftmaxCrossEntropy()), Alone(4)
    Trainer(net, SGD(0.1), images, ranks=parts).fit()
    assert np.isfinite(net.train_step(np.zeros((1, 8, 8, 8)), np.zeros(8, int), SGD(0.1)))
    assert len(Trainer(net, SGD(0.1), images).fit().history) == 1


@pytest.mark.parametrize("count", [0, -3, 2.5, "2", True])
def test_a_number_of_parts_that_is_none_is_refused(count):
    with pytest.raises(MinetError, match="micro-batches must be a whole number of at least 1, got"):
        Alone(count)


@pytest.mark.parametrize(
    "batch, processes, count, message",
    [
        (32, 1, 5, "a batch of 32 images cannot be shared equally by 5 micro-batches"),
        (32, 3, 1, "a batch of 32 images cannot be shared equally by 3 ranks"),
        (32, 2, 3, "a batch of 32 images cannot be shared equally by 2 ranks of 3 micro-batches"),
        (2, 1, 4, "by 4 micro-batches"),
        (2, 1, 0, "micro-batches must be a whole number of at least 1, got 0"),
    ],
)
def test_unequal_parts_are_refused(batch, processes, count, message):
    with pytest.raises(MinetError, match=message):
        micro_batch(batch, processes, count)


def test_the_hint_is_a_batch_that_can_be_shared():
    with pytest.raises(MinetError) as error:
        micro_batch(32, 1, 5)
    assert error.value.hint == "--batch 30 or 35"
