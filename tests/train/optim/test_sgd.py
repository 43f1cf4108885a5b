"""SGD against its formulas, and the errors of its settings and schedules."""

import copy
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from minet import MinetError, Param, backends
from minet.core.memory import Slot
from minet.train.optim import SGD
from minet.train.optim.schedules import Cosine, Exponential, Polynomial, Step, WarmUp


def one_net(values, grads, dtype="float64", **param):
    """As much of a net as a solver sees: one parameter, "w"."""
    w, g = np.array(values, dtype), np.array(grads, dtype)
    slot = Slot("0/layer.w", Param(w.shape, **param), w, g, 0)
    memory = SimpleNamespace(flat_params=w.reshape(-1), flat_grads=g.reshape(-1), verdict=None)
    return SimpleNamespace(be=backends.get("cpu", dtype), slots=[slot], memory=memory)


def test_by_hand():
    net, solver = one_net([1.0, -2.0], [0.5, 0.25]), SGD(lr=0.1, momentum=0.5, weight_decay=0.2)
    w, g = net.slots[0].value, net.slots[0].grad
    solver.update(net)  # g' = 0.7, -0.15; v = g'
    np.testing.assert_allclose(w, [0.93, -1.985])
    g[:] = [1.0, 0.0]
    solver.update(net)  # g' = 1.186, -0.397; v = 0.35 + 1.186, -0.075 - 0.397
    np.testing.assert_allclose(solver.velocity["0/layer.w"], [1.536, -0.472])
    np.testing.assert_allclose(w, [0.93 - 0.1536, -1.985 + 0.0472])
    np.testing.assert_array_equal(g, [1.0, 0.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (70_003,)])  # on one thread, and in blocks
def test_formulas(shape, nesterov, dtype):
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal(shape), np.zeros(shape)
    net = one_net(w, np.zeros(shape), dtype)
    solver = SGD(lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    for _ in range(3):
        g = rng.standard_normal(shape)
        net.slots[0].grad[...] = g
        solver.update(net)
        g = g + 0.01 * w
        v = 0.9 * v + g
        w = w - 0.1 * (g + 0.9 * v if nesterov else v)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-13, "atol": 1e-13}
    np.testing.assert_allclose(net.slots[0].value, w, **tolerance)
    np.testing.assert_allclose(solver.velocity["0/layer.w"], v, **tolerance)


def test_a_parameter_may_opt_out_of_decay_and_have_its_own_rate():
    net = one_net([1.0], [0.5], decay=False, lr=2.0)
    SGD(lr=0.1, weight_decay=0.2).update(net)
    np.testing.assert_allclose(net.slots[0].value, [1 - 2 * 0.1 * 0.5])


def test_a_frozen_parameter_keeps_its_bits():
    net = one_net([1.0, -0.0, 7.0], [0.5, np.nan, 3.0], lr=0.0, bounds=(None, 5.0))
    before = net.slots[0].value.tobytes()
    SGD(lr=0.1, momentum=0.9, weight_decay=0.2).update(net)
    assert net.slots[0].value.tobytes() == before


@pytest.mark.parametrize("size", [4, 70_000])
def test_bounds_hold_and_hide_no_nan(size):
    w = np.resize([-1.0, 0.0, 1.0, np.nan], size)
    for bounds, expected in (
        ((-0.5, 0.25), [-0.5, 0.0, 0.25, np.nan]),
        ((None, 0.25), [-1.0, 0.0, 0.25, np.nan]),
        ((0.5, None), [0.5, 0.5, 1.0, np.nan]),
    ):
        net = one_net(w, np.zeros(size), bounds=bounds)
        SGD(lr=0.1).update(net)
        np.testing.assert_array_equal(net.slots[0].value, np.resize(expected, size))


def test_the_rate_follows_the_schedule():
    net, solver = one_net([1.0], [1.0]), SGD(lr=0.5, schedule=Step({2: 0.1}))
    assert solver.rate == 0.5
    solver.epoch = 2.0
    assert solver.rate == pytest.approx(0.05)
    solver.update(net)
    np.testing.assert_allclose(net.slots[0].value, [0.95])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_continues_the_run_bit_for_bit(copied):
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((4, 6))
    whole, stopped = one_net(np.ones(6), grads[0]), one_net(np.ones(6), grads[0])
    solver, first, second = SGD(lr=0.1, momentum=0.9), SGD(lr=0.1, momentum=0.9), None
    for i, g in enumerate(grads):
        if i == 2:
            second = copied(first)
            stopped = one_net(stopped.slots[0].value, g)
            first.velocity["0/layer.w"][:] = np.nan  # a copy holds its own
        for net, its in ((whole, solver), (stopped, second or first)):
            net.slots[0].grad[:] = g
            its.update(net)
    np.testing.assert_array_equal(stopped.slots[0].value, whole.slots[0].value)


def test_what_a_copy_holds_must_fit_the_net():
    net, solver = one_net([1.0, 2.0], [1.0, 1.0]), SGD(lr=0.1)
    solver.update(net)
    held = copy.copy(solver)
    for velocity, message in (
        ({"0/layer.w": np.zeros(3)}, r"velocity of 0/layer.w has shape \(3,\), the net's parameter \(2,\)"),
        ({"1/layer.w": np.zeros(2)}, r"velocity of 0/layer.w has shape none, the net's parameter \(2,\)"),
        ({"0/layer.w": np.zeros(2), "b": np.zeros(1)}, r"of b has shape \(1,\), the net's parameter none"),
    ):
        held.velocity.clear()
        held.velocity.update(velocity)
        with pytest.raises(MinetError, match=message):
            held.bind(net)
    held.velocity.clear()
    held.bind(net)
    np.testing.assert_array_equal(held.velocity["0/layer.w"], [0, 0])


def test_a_solver_serves_one_net():
    net, solver = one_net([1.0], [1.0]), SGD(lr=0.1)
    solver.update(net)
    solver.update(net)
    other = one_net([1.0], [1.0])
    with pytest.raises(MinetError, match="already serves another net"):
        solver.update(other)
    np.testing.assert_array_equal(other.slots[0].value, [1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(lr=0), "SGD's lr must be a number above 0, got 0"),
        (lambda: SGD(lr=math.nan), "SGD's lr"),
        (lambda: SGD(lr="0.1"), "SGD's lr"),
        (lambda: SGD(0.1, momentum=1), r"SGD's momentum must be a number in \[0, 1\), got 1"),
        (lambda: SGD(0.1, clip_norm=-1), "SGD's clip_norm must be a number above 0, or None, got -1"),
        (lambda: SGD(0.1, clip_value=math.nan), "SGD's clip_value must be"),
        (lambda: SGD(0.1, weight_decay=-1), "SGD's weight_decay must be a number of at least 0"),
        (lambda: SGD(0.1, nesterov=True), "(?s)nesterov needs a momentum.*hint: "),
        (lambda: SGD(0.1, momentum=0.9, nesterov=1), "nesterov must be True or False"),
        (lambda: SGD(0.1, schedule=Cosine), "SGD's schedule must be a function of the epoch"),
        (lambda: SGD(0.1, schedule={20: 0.1}), r"(?s)SGD's schedule must be .*hint: schedule=Step"),
        (lambda: Step({}), "Step takes a dict of epochs to factors"),
        (lambda: Step([20, 0.1]), "Step takes a dict of epochs to factors"),
        (lambda: Step({20: -0.1}), "Step takes a dict of epochs to factors"),
        (lambda: Step({"20": 0.1}), "Step takes a dict of epochs to factors"),
        (lambda: Exponential(0), "Exponential's gamma"),
        (lambda: Polynomial(0), "Polynomial's epochs"),
        (lambda: Polynomial(5, power=0), "Polynomial's power"),
        (lambda: Polynomial(5, end=-1), "Polynomial's end"),
        (lambda: Cosine(True), "Cosine's epochs"),
        (lambda: Cosine(5, end=math.inf), "Cosine's end"),
        (lambda: WarmUp(-1), "WarmUp's epochs"),
        (lambda: WarmUp(5, start=-1), "WarmUp's start"),
        (lambda: WarmUp(5, then=0.1), "WarmUp's then must be a function of the epoch"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(MinetError, match=message):
        make()


@pytest.mark.parametrize("factor", [math.nan, -1.0, None])
def test_a_schedule_that_returns_an_invalid_factor(factor):
    net, solver = one_net([1.0], [1.0]), SGD(lr=0.1, schedule=lambda epoch: factor)
    with pytest.raises(MinetError, match=r"returned .* at epoch 0"):
        solver.update(net)
    np.testing.assert_array_equal(net.slots[0].value, [1.0])


def test_the_settings_can_be_read_back():
    assert "lr=0.1, momentum=0.9" in repr(SGD(0.1, 0.9, schedule=Cosine(5)))
    assert "schedule=Cosine(epochs=5, end=0.0)" in repr(SGD(0.1, schedule=Cosine(5)))
