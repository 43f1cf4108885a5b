"""Nodes: layers and losses run, and report errors, in the same way."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest

from minet import SGD, LayerError, Loss, MinetError, Net, backends
from minet.backends.host_fallback import HostWarning
from minet.data import Dataset
from minet.layers import Linear
from minet.train.evaluation import evaluate


class Plain(Loss):
    """The mean of y; its derivative is the same everywhere."""

    def check(self, labels, out_shape, batch):
        pass

    def loss_cpu(self, y, labels, dy=None):
        if dy is not None:
            dy.fill(1 / y.size)
        return float(y.mean())


@dataclass(frozen=True)
class Scaled(Plain):
    """As a user may write it: with settings, and frozen."""

    factor: float = 2.0

    def loss_cpu(self, y, labels, dy=None):
        return self.factor * super().loss_cpu(y, labels, dy)


class Clumsy(Plain):
    def loss_cpu(self, y, labels, dy=None):
        return y[labels]


class OnTheCard(Plain):
    def loss_gpu(self, y, labels, dy=None):
        assert self.be.name != "cpu"
        self.be.fill(dy, 0.25)
        return 4.0


def net_of(loss, backend="cpu"):
    return Net([Linear(2)], (3, 1, 1), 2, loss, backend, seed=1)


X, LABELS = np.ones((3, 1, 1, 2), np.float32), np.zeros(2, int)
DATA = Dataset(np.ones((4, 3, 1, 1)), np.zeros(4, int))


def test_one_loss_object_serves_several_nets(gpu_backend):
    loss = Scaled()
    here, there = net_of(loss), net_of(loss, backends.get(gpu_backend))
    assert here.loss.be is here.be and there.loss.be is there.be and not hasattr(loss, "be")
    x, y = here.fprop(X), there.fprop(X)
    with pytest.warns(HostWarning, match=r"Scaled \(.*test_node\.py:\d+\) has no kernel"):
        value = there.be.run(there.loss, "loss", y, LABELS, there.dy)
    assert value == pytest.approx(here.be.run(here.loss, "loss", x, LABELS, here.dy), rel=1e-6)
    np.testing.assert_array_equal(there.be.get(there.dy), here.dy)
    assert there.loss.be is there.be


def test_a_loss_with_a_method_for_the_gpu_runs_it(gpu_backend):
    net = net_of(OnTheCard(), gpu_backend)
    assert net.be.run(net.loss, "loss", net.fprop(X), LABELS, net.dy) == 4.0
    assert (net.be.get(net.dy) == 0.25).all()


def test_a_strict_backend_refuses_a_loss_without_a_kernel():
    if why := backends.missing("emu"):
        pytest.skip(why)
    net = net_of(Plain(), backends.get("emu", strict=True))
    with pytest.raises(MinetError, match=r"Plain \(.*\)\n  has no kernel.*\n  hint: write plain\.cu"):
        net.be.run(net.loss, "loss", net.fprop(X), LABELS, net.dy)


def test_a_mistake_in_a_loss_names_its_method_and_line():
    class Solver:
        def update(self, net):
            raise AssertionError("not reached")

    with pytest.raises(
        LayerError,
        match=r"Clumsy \(.*test_node\.py:\d+\)\n  loss_cpu raised IndexError at .*test_node\.py:\d+",
    ):
        net_of(Clumsy()).train_step(X, np.array([7, 8]), Solver())


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("returned", [None, np.ones(2), "1", (1.0, 2), 1j, np.complex64(1j), {}], ids=repr)
def test_a_loss_is_a_number(returned, trusted):
    class Odd(Plain):
        def loss_cpu(self, y, labels, dy=None):
            value = super().loss_cpu(y, labels, dy)
            return value if value is None else returned

    net = net_of(Odd())
    net.be.tried = None if trusted else set()
    found = (
        rf"Odd \(.*test_node\.py:\d+\)\n  the loss is {re.escape(repr(returned))}, not a number\n  hint: ret"
    )
    with pytest.raises(LayerError, match=found):
        net.train_step(X, LABELS, SGD(0.1))
    with pytest.raises(LayerError, match=found):
        evaluate(net, DATA)


def test_any_kind_of_number_is_a_loss():
    for kind in (np.float32, np.array, int, bool, np.float64):

        class Some(Plain):
            def loss_cpu(self, y, labels, dy=None, kind=kind):
                return kind(super().loss_cpu(y, labels, dy))

        net = net_of(Some())
        assert type(net.train_step(X, LABELS, SGD(0.1))) is float is type(evaluate(net, DATA)[0])


@pytest.mark.parametrize(
    ("method", "error", "found"),
    [
        ("count", lambda *_: None, r"count\(labels, 'loss'\) is None, not a number"),
        ("count", lambda *_: np.ones(3), r"count\(labels, 'loss'\) is array\(\[1., 1., 1.\]\), not a number"),
        ("check", lambda *_: {}[3], r"raised KeyError at .*test_node\.py:\d+: 3"),
    ],
)
def test_what_else_a_loss_gets_wrong(method, error, found):
    odd = type("Odd", (Plain,), {method: lambda self, *args: error(*args)})
    with pytest.raises(MinetError, match=found):
        evaluate(net_of(odd()), DATA)


def test_a_check_that_fails_in_a_step_is_named():
    class Odd(Plain):
        def check(self, labels, out_shape, batch):
            raise ValueError("of its own")

    with pytest.raises(
        LayerError, match=r"Odd .*\n  check raised ValueError at .*test_node\.py:\d+: of its own"
    ):
        net_of(Odd()).train_step(X, LABELS, SGD(0.1))


def test_a_loss_without_settings_takes_none():
    with pytest.raises(LayerError, match="Plain takes no settings, got 3"):
        Plain(3)
