"""A training step on a GPU: judged there, read late, and the same whether launched or replayed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from of_solvers import bits as everything
from of_solvers import by_formula

from minet import SGD, Adam, AdamW, Net, Param, SoftmaxCrossEntropy, backends
from minet.core.finite import NotFiniteError
from minet.layers import BatchNorm, Conv, Dropout, GaussianPool, Linear, PReLU, ReLU, StochasticPool

LABELS = np.arange(6) % 3


def batch(seed, bad=None):
    x = np.random.default_rng(seed).standard_normal((2, 4, 4, 6)).astype(np.float32)
    if bad is not None:
        x[1, 2, 3, 4] = bad
    return x


def small(backend):
    return Net([BatchNorm(), PReLU(), Dropout(0.2), Linear(3)], (2, 4, 4), 6, SoftmaxCrossEntropy(), backend)


def bits(net, solver):
    arrays = [*net.params.values(), *net.persistent.values(), *solver.state(net).values()]
    return np.concatenate([net.be.get(array).ravel().view(np.uint32) for array in arrays])


SOLVERS = {"SGD": lambda: SGD(0.1, momentum=0.9), "AdamW": lambda: AdamW(0.01, clip_norm=1.0)}


@pytest.fixture(params=SOLVERS)
def solver(request):
    return SOLVERS[request.param]()


@pytest.fixture
def be(gpu_backend):
    return backends.get(gpu_backend)


def test_losses_are_those_of_the_cpu(be):
    nets = [(small(each), SGD(0.1, momentum=0.9)) for each in ("cpu", be)]
    losses = [[net.train_step(batch(i), LABELS, solver) for i in range(7)] for net, solver in nets]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert type(losses[1][0]) is float and nets[1][0].clock.step == 7


@pytest.mark.parametrize("first", [1, 6])  # on a card: launched, and replayed
def test_a_refused_step_and_those_behind_it_change_nothing(be, first, solver):
    net = small(be)
    for i in range(first):
        net.train_step(batch(i), LABELS, solver)
    before = bits(net, solver)
    one = net.start_step(batch(7, np.nan), LABELS, solver)
    two = net.start_step(batch(8), LABELS, solver)
    assert one.running and two.running and net.clock.now == first + 2
    with pytest.raises(NotFiniteError, match=f"at step {first}: the data is not finite, first in sample 4"):
        two.loss()  # which reads those before it first
    for step in (one, two):
        with pytest.raises(NotFiniteError, match=f"at step {first}:"):
            step.loss()
    assert net.clock.step == first and not net.steps.waiting
    np.testing.assert_array_equal(bits(net, solver), before)
    assert np.isfinite(net.train_step(batch(9), LABELS, solver))
    assert (bits(net, solver) != before).any()


def test_a_refused_step_is_taken_again_with_its_own_part_of_a_batch(be):
    net, solver = small(be), SGD(0.1)
    net.clock.part = 0, 9
    one = net.start_step(batch(7, np.nan), LABELS, solver)
    net.clock.part = 3, 9
    net.start_step(batch(8), LABELS, solver)
    with pytest.raises(NotFiniteError, match="at step 0"):
        one.loss()
    assert net.clock.part == (0, 9) and net.clock.step == 0


class Bursts(PReLU):
    """From step 1 on the gradient is infinite."""

    def fprop_gpu(self, x, y, beta, train):
        PReLU.fprop_gpu(self, x, y, beta, train)

    def bprop_gpu(self, x, dy, dx, beta):
        PReLU.bprop_gpu(self, x, dy, dx, beta)
        if self.clock.step >= 1:
            self.be.fill(self.g.a, np.inf)


def test_a_gradient_that_is_not_finite_is_named(be):
    layers = [BatchNorm(), Bursts(), Linear(3)]
    net, solver = Net(layers, (2, 4, 4), 6, SoftmaxCrossEntropy(), be), SGD(0.1)
    net.train_step(batch(0), LABELS, solver)
    before = bits(net, solver)
    with pytest.raises(NotFiniteError, match="a is not finite at step 1: it comes from bprop of 1:Bursts"):
        net.train_step(batch(1), LABELS, solver)
    np.testing.assert_array_equal(bits(net, solver), before)


@pytest.mark.parametrize("use", ["fprop", "bprop", "predict", "resize", "save", "load"])
def test_whatever_uses_the_net_reads_the_verdict_first(be, use, tmp_path):
    net, solver = small(be), SGD(0.1)
    net.train_step(batch(0), LABELS, solver)
    net.save(tmp_path / "w")
    net.start_step(batch(1, np.inf), LABELS, solver)
    given = {
        "fprop": batch(2), "bprop": net.dy, "predict": batch(2).transpose(3, 0, 1, 2), "resize": 3,
        "save": tmp_path / "x", "load": tmp_path / "w",
    }  # fmt: skip
    with pytest.raises(NotFiniteError, match="at step 1"):
        getattr(net, use)(given[use])
    assert not (tmp_path / "x").exists() and net.batch == 6
    getattr(net, use)(given[use])


def test_the_verdict_stays_until_it_is_read(be):
    verdict, grads = be.zeros((2,), "float64"), be.zeros((5000,))
    terms = np.random.default_rng(0).standard_normal(1000)
    for numbers, slope, expected in (
        (terms, 1.0, [terms.sum(), 0]),
        (terms[:3], 2.0, [terms[:3].sum(), 0]),
        (terms, np.inf, [terms.sum(), 1]),
        (terms[:5], 1.0, [terms.sum(), 1]),
    ):
        be.fill(grads, slope)
        be.judge(be.array(numbers, "float64"), grads, verdict)
        np.testing.assert_allclose(be.get(verdict), expected, rtol=1e-12)
    state, kept = be.zeros((64,), "uint8"), be.zeros((64,), "uint8")
    be.fill(kept, 7)
    be.take_back(kept, state, be.zeros((2,), "float64"))
    assert (be.get(state) == 0).all()
    be.take_back(kept, state, verdict)
    assert (be.get(state) == 7).all()
    be.fill(verdict, 0)
    be.judge(be.array([1.0, np.nan], "float64"), be.zeros((0,)), verdict)
    assert np.isnan(be.get(verdict)[0]) and be.get(verdict)[1] == 1


class Choosy(PReLU):
    """Parameters of odd sizes, with a rate, bounds and a decay of their own; one is frozen."""

    def params(self, in_shape):
        return {
            **super().params(in_shape),
            "a2": Param((2, 3), 0.5, lr=0.3), "b": Param((7, 3), 0.5, bounds=(0.2, None)),
            "c": Param((129,), 0.1, decay=False),
            "d": Param((5,), 1.0, lr=0.0), "e": Param((3000,), -0.1, bounds=(-0.3, 0.1)),
        }  # fmt: skip

    def fprop_gpu(self, x, y, beta, train):
        PReLU.fprop_gpu(self, x, y, beta, train)

    def bprop_gpu(self, x, dy, dx, beta):
        PReLU.bprop_gpu(self, x, dy, dx, beta)


@pytest.mark.parametrize(
    ("kind", "make", "settings"),
    [
        ("sgd", SGD, {"momentum": 0.9}),
        ("sgd", SGD, {"momentum": 0.9, "nesterov": True}),
        ("adam", Adam, {"betas": (0.8, 0.9), "eps": 1e-4}),
        ("adamw", AdamW, {"betas": (0.8, 0.9)}),
    ],
)
def test_one_launch_updates_all_parameters_each_in_its_own_way(be, kind, make, settings):
    net = Net([Choosy(), Linear(3)], (2, 4, 4), 6, SoftmaxCrossEntropy(), be)
    solver = make(0.1, weight_decay=0.01, schedule=lambda epoch: 0.7, **settings)
    rng = np.random.default_rng(1)
    first, given = {s.path: np.array(be.get(s.value)) for s in net.slots}, []
    for _ in range(3):
        be.copy(rng.standard_normal(net.flat_grads.shape).astype(np.float32), net.flat_grads)
        given.append({s.path: np.array(be.get(s.grad)) for s in net.slots})
        solver.update(net)
    for slot in net.slots:
        grads, w = [grads[slot.path] for grads in given], first[slot.path]
        if not slot.param.lr:
            np.testing.assert_array_equal(be.get(slot.value), w)
            continue
        if not slot.param.bounds:  # which hold after each step
            rates = [0.07 * slot.param.lr] * 3
            expected = by_formula(kind, w, grads, rates, 0.01 * slot.param.decay, **settings)
            np.testing.assert_allclose(be.get(slot.value), expected, rtol=1e-5, atol=1e-6)
        low, high = slot.param.bounds or (None, None)
        assert low is None or be.get(slot.value).min() >= np.float32(low)
        assert high is None or be.get(slot.value).max() <= np.float32(high)
    be.copy(np.array([0.0, 1.0]), net.memory.verdict)
    before = everything(net, solver)
    solver.update(net)
    assert everything(net, solver) == before


def test_a_net_that_is_dropped_is_freed_at_once(be):
    gc.disable()
    try:
        net, solver = small(be), SGD(0.1)
        for i in range(5):
            net.train_step(batch(i), LABELS, solver)
        alive = weakref.ref(net)
        del net, solver
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.parametrize("make", SOLVERS.values(), ids=SOLVERS)
def test_a_captured_step_has_the_bits_of_a_launched_one(make):
    if why := backends.missing("cuda"):
        pytest.skip(why)
    found = []
    for captured in (False, True):
        layers = [
            Conv(6, 3, pad=1), BatchNorm(), ReLU(), GaussianPool(3, stride=1, pad=1, kernels=2),
            StochasticPool(2), Dropout(0.2), Linear(3),
        ]  # fmt: skip
        net, solver = Net(layers, (2, 4, 4), 6, SoftmaxCrossEntropy(), "cuda"), make()
        if not captured:
            net.steps.launch = net.steps.compute
        solver.schedule = lambda epoch: 1 / (1 + epoch)
        losses = []
        for i in range(20):
            solver.epoch = i
            losses.append(net.train_step(batch(i), LABELS, solver))
        assert net.steps.captured == captured, net.steps.why
        found.append((losses, bits(net, solver)))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
