"""Buckets: what gradients travel together, and when they leave."""

import numpy as np
import pytest

from minet import Concat, Net, Sequential, SoftmaxCrossEntropy
from minet.layers import Conv, Linear, PReLU
from minet.parallel.buckets import Readiness, buckets_of


def net_of(*layers):
    return Net(Sequential(*layers), (2, 4, 4), 3, SoftmaxCrossEntropy(), dtype="float64")


@pytest.fixture
def stepped(monkeypatch):
    """Run fprop and bprop; return which bprops had run when each bucket was called back for, and all."""

    def step(net, buckets):
        done, seen = [], []
        for kind in {type(layer) for layer in net.graph.walk() if not layer.children}:

            def noted(layer, x, dy, dx, beta=0.0, bprop=kind.bprop):
                bprop(layer, x, dy, dx, beta)
                done.append(layer.full_path)

            monkeypatch.setattr(kind, "bprop", noted)
        net.fprop(np.random.default_rng(0).standard_normal((2, 4, 4, 3)), train=True)
        readiness = Readiness(net.graph, net.slots, buckets)
        with readiness.watching(lambda bucket: seen.append((bucket.number, list(done)))):
            net.bprop(np.ones_like(net.y))
        return seen, done

    return step


def test_buckets_cover_the_gradients_from_the_end():
    net = net_of(Conv(3, 3, pad=1), PReLU(), Linear(5))
    buckets = buckets_of(net.slots, net.flat_grads, size=1)
    assert [bucket.paths for bucket in buckets] == [[slot.path] for slot in reversed(net.slots)]
    assert sum(bucket.values.size for bucket in buckets) == net.flat_grads.size
    for i, bucket in enumerate(buckets):
        bucket.values[...] = i + 1
    assert (net.flat_grads > 0).all()
    assert net.grads["0/conv.w"].flat[0] == len(buckets)


def test_small_parameters_travel_together_and_a_large_one_closes_a_bucket():
    net = net_of(Conv(3, 3, pad=1), PReLU(), Linear(5))
    last = sum(slot.grad.size for slot in net.slots if slot.path.startswith("2/"))
    (one,) = buckets_of(net.slots, net.flat_grads, size=1 << 20)
    assert one.values.size == net.flat_grads.size and one.paths == [slot.path for slot in net.slots]
    first, *_ = buckets_of(net.slots, net.flat_grads, size=last * 8)
    assert first.paths == ["2/linear.w", "2/linear.b"]
    assert first.name == "2/linear.w .. 2/linear.b"


def test_a_bucket_leaves_as_soon_as_its_layers_are_done(stepped):
    net = net_of(Conv(3, 3, pad=1), PReLU(), Linear(5))
    seen, done = stepped(net, buckets_of(net.slots, net.flat_grads, size=1))
    assert done == ["2/linear", "1/prelu", "0/conv"]
    assert [number for number, _ in seen] == list(range(len(net.slots)))
    when = {net.slots[::-1][number].path: before[-1] for number, before in seen}
    assert when == {
        "2/linear.b": "2/linear", "2/linear.w": "2/linear", "1/prelu.a": "1/prelu",
        "0/conv.b": "0/conv", "0/conv.w": "0/conv",
    }  # fmt: skip


def test_shared_weights_leave_when_all_twins_are_done(stepped):
    conv = Conv(2, 3, pad=1)
    net = net_of(conv, PReLU(), conv.twin(), Linear(5))
    seen, _ = stepped(net, buckets_of(net.slots, net.flat_grads, size=1))
    when = {net.slots[::-1][number].path: before[-1] for number, before in seen}
    assert when["0/conv.w"] == "0/conv"  # not already after 2/conv
    assert when["1/prelu.a"] == "1/prelu"


def test_branches_that_are_done_early_wait_for_the_order_of_the_buckets(stepped):
    net = net_of(Concat(Conv(1, 1), Conv(2, 3, pad=1)), Linear(5))
    seen, done = stepped(net, buckets_of(net.slots, net.flat_grads, size=1))
    assert done.index("0/0/conv") < done.index("0/1/conv")
    assert [number for number, _ in seen] == list(range(len(net.slots)))


def test_what_bprop_leaves_out_is_called_back_for_at_the_end(stepped):
    class Skipping(Sequential):
        def bprop(self, x, dy, dx, beta=0.0):
            self.layers[-1].bprop(self._ys[-1], dy, self._dys[-1], 0.0)

    net = Net(Skipping(Conv(3, 3), PReLU(), Linear(5)), (2, 4, 4), 3, SoftmaxCrossEntropy(), dtype="float64")
    seen, done = stepped(net, buckets_of(net.slots, net.flat_grads, size=1))
    assert done == ["2/linear"] and [number for number, _ in seen] == list(range(len(net.slots)))


@pytest.mark.parametrize("fails", [False, True])
def test_layers_are_as_before_afterwards(fails):
    net = net_of(Conv(3, 3, pad=1), Linear(5))
    readiness = Readiness(net.graph, net.slots, buckets_of(net.slots, net.flat_grads))
    before = [dict(vars(layer)) for layer in net.graph.walk()]
    try:
        with readiness.watching(lambda bucket: None):
            assert any("bprop" in vars(layer) for layer in net.graph.walk())
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert [vars(layer).keys() for layer in net.graph.walk()] == [one.keys() for one in before]
