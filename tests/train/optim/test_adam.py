"""Adam and AdamW against their formulas, and the count of updates, which a refused step leaves as it is."""

import copy
import math
import pickle

import numpy as np
import pytest
from of_solvers import bits, by_formula, give, net_of, values_of

from minet import SGD, Adam, AdamW, MinetError, Net, SoftmaxCrossEntropy, backends
from minet.core.finite import NotFiniteError
from minet.layers import BatchNorm, Linear, PReLU


def test_by_hand():
    net, solver = (
        net_of(backends.get("cpu", "float64"), [1.0, -2.0], grads=[[0.5, 0.0]]),
        Adam(0.1, (0.5, 0.75)),
    )
    solver.update(net)  # m = 0.25, c1 = 0.5; v = 0.0625, c2 = 0.25: the first step is lr * sign(g)
    np.testing.assert_allclose(values_of(net)[0], [0.9, -2.0], rtol=1e-7)
    give(net, [-1.0, 0.0])
    solver.update(net)  # m = -0.375, c1 = 0.75; v = 0.046875 + 0.25, c2 = 0.4375
    step = 0.1 * -0.5 / math.sqrt(0.296875 / 0.4375)
    np.testing.assert_allclose(values_of(net)[0], [0.9 - step, -2.0], rtol=1e-7)
    np.testing.assert_allclose(solver.moment1["0/layer.w"], [-0.375, 0.0])
    np.testing.assert_allclose(solver.moment2["0/layer.w"], [0.296875, 0.0])
    assert solver.updates == 2


def test_decoupled_decay_by_hand():
    net = net_of(backends.get("cpu", "float64"), [2.0], grads=[[0.0]])
    AdamW(0.1, weight_decay=0.5).update(net)
    np.testing.assert_allclose(values_of(net)[0], [2 * (1 - 0.05)])
    net = net_of(backends.get("cpu", "float64"), [2.0], grads=[[-1.0]])
    Adam(0.1, weight_decay=0.5).update(net)  # g' = 0: the gradient and the decay cancel out
    np.testing.assert_allclose(values_of(net)[0], [2.0])


@pytest.mark.parametrize("solver", [Adam, AdamW])
@pytest.mark.parametrize("shape", [(3, 5), (70_003,)])  # on one thread, and in blocks
def test_formulas(solver, shape, place):
    rng, be = np.random.default_rng(0), backends.get(*place)
    w, grads = rng.standard_normal(shape), [rng.standard_normal(shape) for _ in range(4)]
    net = net_of(be, w)
    its = solver(0.1, betas=(0.8, 0.95), weight_decay=0.1, schedule=lambda epoch: 1 / (1 + epoch))
    for i, grad in enumerate(grads):
        its.epoch = i
        give(net, grad)
        its.update(net)
    rates = [0.1 / (1 + i) for i in range(4)]
    expected = by_formula(solver.__name__.lower(), w, grads, rates, decay=0.1, betas=(0.8, 0.95))
    rtol = 1e-5 if be.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(values_of(net)[0], expected, rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("solver", [Adam, AdamW])
def test_rates_decay_and_bounds_of_a_parameter(solver, backend):
    for param, expected in (
        (
            {"lr": 0.5},
            [1.0 - 0.05 - 0.05 * 0.2, 3.0 - 0.05 - 0.05 * 0.6] if solver is AdamW else [0.95, 2.95],
        ),
        ({"decay": False}, [0.9, 2.9]),
        ({"lr": 0.0, "bounds": (None, 2.0)}, [1.0, 3.0]),
        ({"decay": False, "bounds": (0.95, 2.5)}, [0.95, 2.5]),
    ):
        net = net_of(backend, [1.0, 3.0], grads=[[1.0, 1.0]], **param)
        solver(0.1, weight_decay=0.2).update(net)
        np.testing.assert_allclose(values_of(net)[0], expected, rtol=1e-6)


def test_a_bound_hides_no_nan(backend):
    net = net_of(backend, [1.0, 2.0], grads=[[math.nan, 1.0]], bounds=(-1.0, 1.5))
    Adam(clip_value=0.1).update(net)
    np.testing.assert_array_equal(values_of(net)[0], [math.nan, 1.5])


def test_without_inertia_a_step_has_the_size_of_the_rate(backend):
    net = net_of(backend, [1.0, 1.0, 1.0], grads=[[1e-3, -1e3, 0.0]])
    Adam(0.25, betas=(0.0, 0.0)).update(net)
    np.testing.assert_allclose(values_of(net)[0], [0.75, 1.25, 1.0], rtol=1e-4)


def test_many_updates_are_counted_exactly(gpu_backend):
    """The card computes 1 - b^t by squaring."""
    for done in (0, 1, 6, 999, 123_456, 10**9):
        nets = [net_of(each, np.linspace(-1, 1, 9)) for each in ("cpu", gpu_backend)]
        for net in nets:
            solver = Adam(0.1)
            net.be.copy(np.array([done]), solver.state(net)["updates:"])
            give(net, np.linspace(1, 2, 9))
            solver.update(net)
            assert solver.updates == done + 1
        np.testing.assert_allclose(*map(values_of, nets), rtol=1e-6)


def test_a_refused_update_changes_nothing(gpu_backend):
    net, solver = net_of(gpu_backend, [1.0, 2.0, 3.0], grads=[[1.0, 2.0, 3.0]]), Adam(0.1, clip_norm=1.0)
    solver.update(net)
    before = bits(net, solver)
    for _ in range(3):
        net.be.copy(np.array([0.0, 1.0]), net.memory.verdict)
        solver.update(net)
        assert bits(net, solver) == before and solver.updates == 1
    net.be.copy(np.zeros(2), net.memory.verdict)
    solver.update(net)
    assert solver.updates == 2


def trained(solver, backend, steps, bad=()):
    """A net after these steps, of which some are refused, and the solver."""
    net = Net([BatchNorm(), PReLU(), Linear(3)], (2, 4, 4), 6, SoftmaxCrossEntropy(), backend)
    for i in range(steps):
        x = np.random.default_rng(i).standard_normal((2, 4, 4, 6)).astype(np.float32)
        if i in bad:
            x[0, 0, 0, 0] = np.nan
            with pytest.raises(NotFiniteError):
                net.train_step(x, np.arange(6) % 3, solver)
        else:
            net.train_step(x, np.arange(6) % 3, solver)
    return net, solver


@pytest.mark.parametrize("make", [lambda: Adam(0.01), lambda: SGD(0.1, momentum=0.9)])
def test_a_refused_step_does_not_count(make, backend):
    solver, other = make(), make()
    net, _ = trained(solver, backend, 7, bad=(0, 3, 4))
    batches = [
        np.random.default_rng(i).standard_normal((2, 4, 4, 6)).astype(np.float32) for i in (1, 2, 5, 6)
    ]
    like = Net([BatchNorm(), PReLU(), Linear(3)], (2, 4, 4), 6, SoftmaxCrossEntropy(), backend)
    for x in batches:
        like.train_step(x, np.arange(6) % 3, other)
    assert bits(net, solver) == bits(like, other)
    assert getattr(solver, "updates", 4) == 4


def test_those_behind_a_refused_step_do_not_count_either(gpu_backend):
    net, solver = trained(Adam(0.01), gpu_backend, 3)
    before, good = bits(net, solver), np.ones((2, 4, 4, 6), np.float32)
    started = [net.start_step(x, np.arange(6) % 3, solver) for x in (good * np.inf, good)]
    with pytest.raises(NotFiniteError):
        started[1].loss()
    assert bits(net, solver) == before and solver.updates == 3


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_goes_on_where_it_was_made(copied, backend):
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((5, 6))
    net, solver = net_of(backend, np.ones(6)), Adam(0.1)
    for grad in grads[:3]:
        give(net, grad)
        solver.update(net)
    other, twin = net_of(backend, values_of(net)[0]), copied(solver)
    assert twin.updates == 3 and isinstance(twin.moment1["0/layer.w"], np.ndarray)
    for grad in grads[3:]:
        for one, its in ((net, solver), (other, twin)):
            give(one, grad)
            its.update(one)
    assert bits(net, solver) == bits(other, twin) and twin.updates == solver.updates == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(0), "Adam's lr must be a number above 0, got 0"),
        (lambda: AdamW(math.nan), "AdamW's lr"),
        (lambda: Adam(betas=0.9), r"(?s)Adam's betas must be two numbers in \[0, 1\), got 0.9.*hint: Adam"),
        (lambda: Adam(betas=(0.9, 1.0)), r"Adam's betas must be .*, got \(0.9, 1.0\)"),
        (lambda: Adam(betas=(0.9, 0.9, 0.9)), "Adam's betas"),
        (lambda: AdamW(betas=("a", 0)), "AdamW's betas"),
        (lambda: Adam(eps=0), "Adam's eps must be a number above 0, got 0"),
        (lambda: Adam(weight_decay=-1), "Adam's weight_decay must be a number of at least 0"),
        (lambda: Adam(clip_norm=0), "Adam's clip_norm must be a number above 0, or None, got 0"),
        (lambda: Adam(schedule=0.1), "Adam's schedule must be a function of the epoch"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(MinetError, match=message):
        make()


def test_the_settings_can_be_read_back():
    assert repr(Adam(0.1, eps=1e-6)).startswith(
        "Adam(lr=0.1, betas=(0.9, 0.999), eps=1e-06, weight_decay=0.0"
    )
    assert "weight_decay=0.01" in repr(AdamW()) and AdamW().lr == Adam().lr == 1e-3
    assert Adam(np.float32(0.5), betas=[np.float32(0.5), np.float64(0.5)]).betas == (0.5, 0.5)
