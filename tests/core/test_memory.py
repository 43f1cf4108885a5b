"""A net's memory stays in one piece: copies of a net, and arrays of the caller's that overlap its own."""

import copy
import pickle

import numpy as np
import pytest

from minet import SGD, Concat, LayerError, MinetError, Net, Sequential, SoftmaxCrossEntropy, Sum
from minet.layers import AvgPool, BatchNorm, Conv, Dropout, GaussianPool, Identity, Linear, PReLU, ReLU

rng = np.random.default_rng(0)
X, LABELS = rng.standard_normal((2, 6, 6, 4)).astype("float32"), np.array([0, 1, 2, 1])


def make(backend="cpu"):
    first = Conv(2, 3, pad=1)
    graph = [Concat(first, first.twin()), BatchNorm(), Dropout(0.5), Sum(PReLU(), Identity()), Linear(3)]
    return Net(graph, (2, 6, 6), 4, SoftmaxCrossEntropy(), backend, seed=1)


def losses(net, solver, steps=4):
    return [net.train_step(X, LABELS, solver) for _ in range(steps)]


def test_a_deep_copy_trains_as_the_original_does(backend):
    net, solver = make(backend), SGD(0.1, momentum=0.9)
    losses(net, solver)
    other, second = copy.deepcopy((net, solver))
    assert other.clock.step == net.clock.step == 4 and other.be is net.be
    assert {path: other.be.get(a).tobytes() for path, a in (other.params | other.persistent).items()} == {
        path: net.be.get(a).tobytes() for path, a in (net.params | net.persistent).items()
    }
    assert losses(other, second) == losses(net, solver)
    other.be.fill(other.params["4/linear.w"], 0.0)
    assert net.be.get(net.params["4/linear.w"]).any()


def test_gradients_of_a_deep_copy_are_cleared_and_watched():
    net = copy.deepcopy(make())
    dy = np.ones((3, 1, 1, 4), "float32")
    net.fprop(X, True)
    net.bprop(dy)
    once = {path: grad.copy() for path, grad in net.grads.items()}
    net.bprop(dy)
    for path, grad in net.grads.items():
        np.testing.assert_array_equal(grad, once[path])
    for value in net.params.values():
        value[...] = 0
    net.params["0/0/conv.w"][...] = 1
    net.params["1/batch_norm.gamma"][...] = 3e38  # gradients overflow, the loss does not
    with pytest.raises(MinetError, match="not finite"):
        net.train_step(X * 1e3, LABELS, SGD(1.0))


def test_a_copy_of_a_bound_layer_is_unbound():
    net = make()
    graph = copy.deepcopy(net.graph)
    again = Net(graph, (2, 6, 6), 4, seed=1)
    assert list(again.params) == list(net.params)  # the twin stays one
    assert copy.deepcopy({"net": net, "layer": net.graph.layers[1]})["layer"].bound


@pytest.mark.parametrize("copied", [lambda net: pickle.loads(pickle.dumps(net)), copy.copy])
def test_a_net_that_was_pickled_or_copied_has_memory_of_its_own(copied, backend):
    net = make(backend)
    losses(net, SGD(0.1))
    other = copied(net)
    assert other.be.name == net.be.name and other.be is not net.be
    assert losses(other, SGD(0.1)) == losses(net, SGD(0.1))
    other.be.fill(other.params["4/linear.w"], 0.0)
    assert net.be.get(net.params["4/linear.w"]).any()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy])
def test_a_bound_layer_is_not_pickled_by_itself(copied):
    with pytest.raises(LayerError, match=r"1:BatchNorm .*\n  a bound layer cannot be pickled"):
        copied(make().graph.layers[1])


def test_an_unbound_layer_is_pickled():
    assert repr(pickle.loads(pickle.dumps(Conv(4, 3, pad=1)))) == "Conv(4, 3, pad=1)"


GRAPHS = [
    lambda: GaussianPool(3, 1, 1),
    lambda: AvgPool(3, 1, 1),
    lambda: Concat(Conv(1, 3, pad=1), Conv(1, 3, pad=1)),
    lambda: Sequential(Conv(2, 3, pad=1), PReLU()),
    lambda: Sum(Identity(), Conv(2, 3, pad=1)),
    lambda: ReLU(),
]


@pytest.mark.parametrize("make_graph", GRAPHS, ids=lambda make: repr(make()).replace(" ", ""))
def test_a_net_takes_its_own_output_as_its_next_input(make_graph, backend):
    a, b = (Net(make_graph(), (2, 6, 6), 4, backend=backend, seed=1) for _ in "ab")
    x, y = a.be.array(X), X
    for _ in range(3):
        x, y = a.fprop(x, True), np.array(b.be.get(b.fprop(y, True)))
    np.testing.assert_array_equal(a.be.get(x), y)
    a.fprop(x, True), b.fprop(y, True)
    for net in (a, b):
        net.bprop(np.ones((2, 6, 6, 4), "float32"))
    np.testing.assert_array_equal(a.be.get(a.flat_grads), b.be.get(b.flat_grads))


@pytest.mark.parametrize("make_graph", GRAPHS, ids=lambda make: repr(make()).replace(" ", ""))
def test_what_the_caller_does_to_x_and_dy_changes_no_gradient(make_graph, backend):
    a, b = (Net(make_graph(), (2, 6, 6), 4, backend=backend, seed=1) for _ in "ab")
    dy = rng.standard_normal((2, 6, 6, 4)).astype("float32")
    x, dx = a.be.array(X.copy()), a.be.empty(X.shape)
    a.fprop(X, True)
    a.bprop(dy, dx)
    b.fprop(x, True)
    b.be.fill(x, 0.0)
    both = b.be.array(dy.copy())
    b.bprop(both, both)  # dx is dy
    np.testing.assert_array_equal(b.be.get(both), a.be.get(dx))
    np.testing.assert_array_equal(b.be.get(b.flat_grads), a.be.get(a.flat_grads))
    with pytest.raises(MinetError, match="dx is the net's own x"):
        b.bprop(dy, b.x)


def test_slices_of_one_array_as_dy_and_dx(backend):
    a, b = (Net([Conv(2, 3, pad=1)], (2, 6, 6), 4, backend=backend, seed=1) for _ in "ab")
    memory = b.be.array(np.concatenate([rng.standard_normal((1, 6, 6, 4)), X]).astype("float32"))
    dy, dx = np.array(b.be.get(memory))[1:], a.be.empty(X.shape)
    for net in (a, b):
        net.fprop(X, True)
    a.bprop(dy, dx)
    b.bprop(memory[1:], memory[:2])
    np.testing.assert_array_equal(b.be.get(memory)[:2], a.be.get(dx))
