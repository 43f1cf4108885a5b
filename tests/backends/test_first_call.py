"""A net's first step tells of code that does not write its result, wherever it is in the net."""

from __future__ import annotations

import re

import numpy as np
import pytest
from zoo import Toy
from zoo_losses import Renamed, SmoothL1

from minet import SGD, Concat, LayerError, Net, Sum, update
from minet.layers import Identity

X = np.ones((2, 3, 4, 5), np.float32)


class Returns(Toy):
    def fprop_cpu(self, x, y, beta, train):
        return self.p.a * np.tanh(x)


class Renames(Toy):
    def fprop_cpu(self, x, y, beta, train):
        y = self.p.a * np.tanh(x)  # noqa: F841


class HalfWritten(Toy):
    def fprop_cpu(self, x, y, beta, train):
        update(y[:, 1:], self.p.a * np.tanh(x[:, 1:]), beta)


class TimesZero(Toy):
    def fprop_cpu(self, x, y, beta, train):
        y *= beta
        y += self.p.a * np.tanh(x)


class ReturnsDx(Toy):
    def bprop_cpu(self, x, dy, dx, beta):
        return dy * self.slope(x)


class RenamesDx(Toy):
    def bprop_cpu(self, x, dy, dx, beta):
        dx = dy * self.slope(x)  # noqa: F841


@pytest.mark.parametrize(
    ("cls", "found"),
    [
        (
            Returns,
            r"fprop_cpu returned an array of shape \(2, 3, 4, 5\); it must write into y and return nothing",
        ),
        (
            Renames,
            r"fprop_cpu did not write y\n  hint: y\[...\] = value writes; y = value only names it anew",
        ),
        (HalfWritten, r"fprop_cpu did not write y\[0, 0, 0, 0\]"),
        (TimesZero, r"fprop_cpu did not write y\n.*and 0 \* y reads it"),
        (ReturnsDx, r"bprop_cpu returned an array of shape \(2, 3, 4, 5\); it must write into dx and"),
        (RenamesDx, r"bprop_cpu did not write dx\n"),
    ],
)
@pytest.mark.parametrize("around", [lambda one: [Toy(), one], lambda one: [Toy(), Sum(one, Identity())]])
def test_the_first_step_is_an_error(cls, found, around):
    net = Net(around(cls()), (2, 3, 4), 5)
    with pytest.raises(LayerError, match=rf"1(/0)?:{cls.__name__} \(tests/.*\)\n  {found}"):
        net.bprop(net.fprop(X, train=True), np.empty_like(X))


@pytest.mark.parametrize("mode", [True, False])
def test_each_mode_is_watched(mode):
    class OneMode(Toy):
        def fprop_cpu(self, x, y, beta, train):
            if train == mode:
                super().fprop_cpu(x, y, beta, train)

    net = Net([Toy(), OneMode()], (2, 3, 4), 5)
    net.bprop(net.fprop(X, train=mode))
    with pytest.raises(LayerError, match=r"1:OneMode .*\n  fprop_cpu did not write y"):
        net.fprop(X, train=not mode)


def test_a_loss_that_does_not_write_dy():
    net = Net(Toy(), (2, 3, 4), 5, loss=Renamed())
    with pytest.raises(LayerError, match=r"Renamed \(.*\)\n  loss_cpu did not write dy\n"):
        net.train_step(X, X, SGD(0.1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_layers_compute_the_same_in_their_first_call(dtype):
    net = Net([Concat(Toy(), Sum(Toy(), Toy())), Toy()], (2, 3, 4), 5, loss=SmoothL1(), dtype=dtype)
    first, again = np.array(net.fprop(X)), np.array(net.fprop(X))
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(net.train_step(X, first, SGD(0.1)))


def test_nan_that_the_formula_gives_is_no_mistake():
    class Nan(Toy):
        def fprop_cpu(self, x, y, beta, train):
            update(y, np.full_like(x, np.nan), beta)

    assert np.isnan(Net(Nan(), (2, 3, 4), 5).fprop(X)).all()


def test_on_a_host_of_a_gpu_too(gpu_backend):
    with pytest.warns(UserWarning, match="no kernel"), pytest.raises(LayerError, match="did not write y"):
        Net(Renames(), (2, 3, 4), 5, backend=gpu_backend).fprop(X)


def test_each_class_and_phase_is_seen_once():
    net = Net([Toy(), Toy()], (2, 3, 4), 5)
    net.fprop(X)
    assert {(cls.__name__, *how) for cls, *how in net.be.tried} == {("Toy", "fprop", False)}
    assert not re.search("bprop", str(net.be.tried))
