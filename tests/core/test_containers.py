"""Sequential, Concat and Sum: what they compute, whose memory it is, and what they refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest
from zoo import Centre, Noise, Tallest, Toy

from minet import Concat, Layer, LayerError, Net, Sequential, State, Sum, update
from minet.backends.cpu import CPU
from minet.layers import Conv, Identity
from minet.testing import check_layer, layer_checks, run

test_sequential = layer_checks(Sequential)
test_concat = layer_checks(Concat)
test_sum = layer_checks(Sum)


class Times(Layer):
    """``y = k*x``, with the channels repeated `copies` times; records its arguments."""

    def __init__(self, k=1.0, copies=1):
        self.k, self.copies, self.binds = k, copies, 0

    def out_shape(self, in_shape):
        return (in_shape[0] * self.copies, *in_shape[1:])

    def on_bind(self):
        self.binds += 1

    def fprop_cpu(self, x, y, beta, train):
        self.x, self.y, self.beta_y = x, y, beta
        update(y, np.tile(self.k * x, (self.copies, 1, 1, 1)), beta)

    def bprop_cpu(self, x, dy, dx, beta):
        self.dy, self.dx, self.beta_dx = dy, dx, beta
        if dx is not None:
            update(dx, self.k * dy.reshape(self.copies, *x.shape).sum(axis=0), beta)


def numbers(*shape):
    return np.arange(1.0, 1 + np.prod(shape)).reshape(shape)


def address(array):
    return array.__array_interface__["data"][0]


def passed(graph, in_shape=(2, 3, 4), batch=5):
    """A net after one fprop and bprop, and the dx."""
    net = Net(graph, in_shape, batch)
    x = net.be.array(numbers(*in_shape, batch))
    dx = net.be.empty(x.shape)
    net.fprop(x, train=True)
    net.be.copy(numbers(*net.dy.shape), net.dy)
    net.bprop(net.dy, dx)
    return net, dx


# -- by hand ----------------------------------------------------------------------------------------


def test_sequential_by_hand():
    x, dy = numbers(1, 1, 2, 1), numbers(1, 1, 2, 1)
    out = run(Sequential(Times(2), Times(3), Times(-1)), x, dy, beta_y=0.5, y0=x, beta_dx=2, dx0=x)
    np.testing.assert_array_equal(out.y.ravel(), [0.5 - 6, 1 - 12])
    np.testing.assert_array_equal(out.dx.ravel(), [2 - 6, 4 - 12])


def test_concat_by_hand():
    x = numbers(1, 1, 2, 1)
    dy = np.array([1.0, 2, 10, 20, 100, 200, 1000, 2000]).reshape(4, 1, 2, 1)
    y0 = np.ones((4, 1, 2, 1))
    graph = Concat(Identity(), Times(5), Times(7, copies=2))
    out = run(graph, x, dy, beta_y=3, y0=y0, beta_dx=0.5, dx0=x)
    np.testing.assert_array_equal(out.y.ravel(), [4, 5, 8, 13, 10, 17, 10, 17])
    np.testing.assert_array_equal(out.dx.ravel(), [0.5 + 1 + 50 + 7700, 1 + 2 + 100 + 15400])


def test_sum_by_hand():
    x, dy = numbers(1, 1, 2, 1), np.array([1.0, 10]).reshape(1, 1, 2, 1)
    out = run(Sum(Times(2), Identity(), Times(4)), x, dy, beta_y=-1, y0=x, beta_dx=0.5, dx0=x)
    np.testing.assert_array_equal(out.y.ravel(), [-1 + 7, -2 + 14])
    np.testing.assert_array_equal(out.dx.ravel(), [0.5 + 7, 1 + 70])


@pytest.mark.parametrize("kind", [Sequential, Concat, Sum])
def test_a_container_of_one_is_that_one(kind):
    x, dy = numbers(2, 3, 2, 3) / 36, numbers(2, 3, 2, 3)
    alone, inside = run(Toy(), x, dy), run(kind(Toy()), x, dy)
    np.testing.assert_array_equal(inside.y, alone.y)
    np.testing.assert_array_equal(inside.dx, alone.dx)
    np.testing.assert_array_equal(inside.grads["0/toy.a"], alone.grads.a)


def test_lists_and_tuples_are_sequentials():
    x = numbers(1, 1, 2, 1)
    graph = Sum([Times(2), Times(3)], (Times(5), [Times(7)]))
    assert [type(child) for child in graph.children] == [Sequential, Sequential]
    np.testing.assert_array_equal(run(graph, x).y, 41 * x)


# -- shapes of well-known nets, composed by hand ----------------------------------------------------


def squash(a, x):
    """What Toy computes with all its parameters at a, and the slope."""
    return a * np.tanh(x), a * (1 - np.tanh(x) ** 2)


def set_all(graph, x, value, **options):
    """`run` with every parameter at one value."""
    params = Net(graph.clone(), x.shape[:3], x.shape[3]).params
    return run(graph, x, params={path: np.full(p.shape, value) for path, p in params.items()}, **options)


def test_residual_blocks():
    x, dy = np.sin(numbers(2, 3, 2, 3)), np.cos(numbers(2, 3, 2, 3))
    graph = Sequential(Sum(Identity(), [Toy(), Times(2)]), Sum(Identity(), [Toy(), Times(3)]))
    out = set_all(graph, x, 0.5, dy=dy)
    f, df = squash(0.5, x)
    h = x + 2 * f
    g, dg = squash(0.5, h)
    dh = dy * (1 + 3 * dg)
    np.testing.assert_allclose(out.y, h + 3 * g, rtol=1e-12)
    np.testing.assert_allclose(out.dx, dh * (1 + 2 * df), rtol=1e-12)
    axes = (1, 2, 3)
    np.testing.assert_allclose(out.grads["1/1/0/toy.a"].ravel(), (3 * dy * np.tanh(h)).sum(axes))
    np.testing.assert_allclose(out.grads["0/1/0/toy.a"].ravel(), (2 * dh * np.tanh(x)).sum(axes))


def test_inception_blocks():
    x = np.sin(numbers(2, 3, 2, 3))
    dy = np.cos(numbers(16, 3, 2, 3))
    block = Concat([Toy(), Times(2)], Identity(), [Concat(Toy(), Times(3)), Times(-1)])
    out = set_all(Sequential(block, Concat(Toy(), Identity())), x, 0.5, dy=dy)
    f, df = squash(0.5, x)
    h = np.concatenate([2 * f, x, -f, -3 * x])
    g, dg = squash(0.5, h)
    dh = dy[:8] * dg + dy[8:]
    np.testing.assert_allclose(out.y, np.concatenate([g, h]), rtol=1e-12)
    expected = 2 * dh[:2] * df + dh[2:4] - dh[4:6] * df - 3 * dh[6:]
    np.testing.assert_allclose(out.dx, expected, rtol=1e-11)


def test_u_net():
    x, dy = np.sin(numbers(2, 3, 2, 3)), np.cos(numbers(6, 3, 2, 3))
    inner = Concat(Identity(), [Times(2), Toy(), Times(5)])
    out = set_all(Concat(Identity(), [Toy(), inner, Toy()]), x, 0.5, dy=dy)
    f, df = squash(0.5, x)
    g, dg = squash(0.5, 2 * f)
    h = np.concatenate([f, 5 * g])
    top, dtop = squash(0.5, h)
    dh = dy[2:] * dtop
    df_ = dh[:2] + 10 * dh[2:] * dg
    np.testing.assert_allclose(out.y, np.concatenate([x, top]), rtol=1e-12)
    np.testing.assert_allclose(out.dx, dy[:2] + df_ * df, rtol=1e-11)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sum(Toy(), [Times(2), Concat(Identity())], [Concat([Noise(), Toy()])]),
        lambda: Sum([Times(2), Concat(Toy(), Times(3))], Concat(Sum(Toy(), Identity()), Noise())),
        lambda: Sequential(Sequential(Sequential(Toy()))),
        lambda: Concat(Concat(Concat(Toy(), Noise()), [Toy()]), Sum(Centre(), [Concat(Centre())])),
        lambda: Sequential(Tallest(), Sum(Toy(), Identity())),
        lambda: Concat([Toy(), Noise(), Centre(), Toy()], [Noise(), Toy(), [Toy(), Toy(), Noise()]]),
    ],
)
def test_nestings_keep_the_contract(make):
    report = check_layer(make, (2, 3, 4))
    assert report.ok, str(report)


# -- whose memory it is -----------------------------------------------------------------------------


def test_every_branch_works_on_slices_of_the_parents_y_and_dy():
    a, b, c, d, e = Times(), Times(copies=2), Times(), Times(), Times()
    net, dx = passed(Concat(a, Concat(b, Sum(c, [Times(), d])), [Concat(e)]))
    row = net.y[0].nbytes
    for layer, start, count in ((a, 0, 2), (b, 2, 4), (c, 6, 2), (d, 6, 2), (e, 8, 2)):
        assert address(layer.y) == address(net.y) + start * row
        assert address(layer.dy) == address(net.dy) + start * row
        assert layer.y.shape == layer.dy.shape == (count, 3, 4, 5)
        assert layer.y.flags.c_contiguous
    for layer in (a, b, c, e):
        assert address(layer.x) == address(net.x)
        assert address(layer.dx) == address(dx)


def test_the_first_of_those_that_share_gets_the_callers_beta():
    first, second, third = Times(), Times(), Times()
    net, _ = passed(Sum(first, [second, third], Times()))
    assert (first.beta_y, second.beta_y, third.beta_y) == (0.0, 0.0, 1.0)
    assert (first.beta_dx, second.beta_dx, third.beta_dx) == (0.0, 1.0, 0.0)
    net.graph.fprop(net.x, net.y, 0.5, True)
    net.graph.bprop(net.x, net.dy, net.be.zeros(net.x.shape), -2.0)
    assert (first.beta_y, second.beta_y, third.beta_y) == (0.5, 0.0, 1.0)
    assert (first.beta_dx, second.beta_dx, third.beta_dx) == (-2.0, 1.0, 0.0)


def test_every_branch_of_a_concat_gets_the_callers_beta_forward():
    branches = [Times(), Times(), Times()]
    net, _ = passed(Concat(*branches))
    net.graph.fprop(net.x, net.y, 0.5, True)
    net.graph.bprop(net.x, net.dy, net.be.zeros(net.x.shape), -2.0)
    assert [branch.beta_y for branch in branches] == [0.5, 0.5, 0.5]
    assert [branch.beta_dx for branch in branches] == [-2.0, 1.0, 1.0]


def test_no_dx_no_work_for_any_first_layer():
    first, second, branch, shared = Times(), Times(), Times(), Times()
    net = Net([Concat([first, second], branch), shared], (2, 3, 4), 5)
    net.fprop(np.ones((2, 3, 4, 5)))
    net.bprop(np.ones(net.y.shape))
    assert first.dx is None and branch.dx is None
    assert second.dx is not None and shared.dx is not None


def test_concat_and_sum_own_no_memory(monkeypatch):
    sizes = []
    empty = CPU.empty

    def counted(self, shape, dtype=None):
        array = empty(self, shape, dtype)
        sizes.append(array.nbytes)
        return array

    monkeypatch.setattr(CPU, "empty", counted)
    net = Net(Concat(Identity(), Concat(Identity(), Sum(Identity(), Concat(Identity())))), (2, 3, 4), 5)
    assert sum(sizes) == net.nbytes == net.memory.x.nbytes + net.y.nbytes + net.dy.nbytes
    assert net.y.shape == (6, 3, 4, 5)

    sizes.clear()
    net = Net([Identity(), Concat(Identity(), [Identity(), Identity()]), Identity()], (2, 3, 4), 16)
    small, large = 4 * 2 * 3 * 4 * 16, 4 * 4 * 3 * 4 * 16  # both whole cache lines
    between = small + large + small  # activations: 0, 1, and inside the branch
    deltas = small + large + small  # even and odd of the outer Sequential, even of the inner one
    assert sum(sizes) == net.nbytes == small + 2 * large + between + deltas


def test_deltas_take_two_buffers_however_long_the_sequence():
    def net(length):
        return Net([Times() for _ in range(length)], (2, 3, 4), 16)

    one, y = net(1).nbytes, net(1).y.nbytes
    assert [net(n).nbytes - one for n in (2, 3, 4, 9)] == [2 * y, 4 * y, 5 * y, 10 * y]


def test_a_delta_computed_in_place_stays_in_its_buffer():
    class InPlace(Times):
        in_place = True

    layers = [Times(2), InPlace(3), InPlace(5), Times(7), InPlace(11)]
    net, dx = passed(layers)
    assert (net.be.get(dx) == 2 * 3 * 5 * 7 * 11 * numbers(*net.dy.shape)).all()
    outer, *_, last = layers[::-1]
    assert outer.dx is not net.dy, "the net must not overwrite the caller's delta"
    assert layers[1].dx is layers[1].dy is layers[2].dx is layers[2].dy is layers[3].dx is last.dy
    assert address(layers[3].dy) != address(layers[3].dx)
    net = Net([Times(), InPlace(), InPlace(), InPlace()], (2, 3, 4), 16)
    assert net.nbytes == (3 + 3 + 1) * net.y.nbytes  # x, y and dy, three activations, one delta


def test_sequences_of_one_depth_share_their_deltas():
    graph = Sum([Times(), Times(), Times()], [Times(), Times(), Times()], [[Times(), Times()]])
    Net(graph, (2, 3, 4), 5)
    one, two, three = graph.children
    assert np.shares_memory(one.s.even, two.s.even) and np.shares_memory(one.s.odd, two.s.odd)
    assert not np.shares_memory(one.s.even, one.s.odd)
    assert not np.shares_memory(one.s.y0, two.s.y0)
    assert not np.shares_memory(three.children[0].s.even, one.s.even)


class Messy(Toy):
    """A Toy that leaves NaN all over its scratch, at both ends of each call."""

    def state(self, in_shape, out_shape):
        big = (in_shape[0] * 3, *in_shape[1:])
        return {
            "floats": State(big, scratch=True),
            "bytes": State((7,), "uint8", scratch=True),
            "none": State((0, 3), scratch=True),
            "flags": State(in_shape, "bool", per_sample=False, scratch=True),
        }

    def mess(self):
        self.s.floats[...] = np.nan
        self.s.bytes[...] = 255
        self.s.flags[...] = True

    def fprop_cpu(self, x, y, beta, train):
        self.mess()
        super().fprop_cpu(x, y, beta, train)
        self.mess()

    def bprop_cpu(self, x, dy, dx, beta):
        self.mess()
        super().bprop_cpu(x, dy, dx, beta)
        self.mess()


def test_scratch_of_a_layer_never_overlaps_the_deltas_around_it():
    def graph(kind):
        deep = Sum([kind(), kind(), kind()], [kind(), Concat([kind(), kind(), kind(), kind()]), kind()])
        return Sequential(kind(), deep, kind(), [kind(), [kind(), deep.clone(), kind()], kind()], kind())

    x, dy = np.sin(numbers(2, 3, 2, 3)), np.cos(numbers(2, 3, 2, 3))
    clean, dirty = run(graph(Toy), x, dy), run(graph(Messy), x, dy)
    np.testing.assert_array_equal(dirty.y, clean.y)
    np.testing.assert_array_equal(dirty.dx, clean.dx)
    assert np.isfinite(dirty.dx).all()
    for path, value in clean.grads.items():
        np.testing.assert_array_equal(dirty.grads[path.replace("toy", "messy")], value)


def test_scratch_has_the_declared_types_on_cache_lines():
    layer = Messy()
    Net([Identity(), layer], (2, 3, 4), 5)
    assert (layer.s.floats.shape, layer.s.floats.dtype) == ((6, 3, 4, 5), np.float32)
    assert (layer.s.bytes.shape, layer.s.bytes.dtype) == ((7, 5), np.uint8)
    assert layer.s.none.shape == (0, 3, 5)
    assert (layer.s.flags.shape, layer.s.flags.dtype) == ((2, 3, 4), bool)
    arrays = [layer.s.floats, layer.s.bytes, layer.s.flags]
    assert [address(array) % 64 for array in arrays] == [0, 0, 0]
    assert not any(np.shares_memory(a, b) for a in arrays for b in arrays if a is not b)


# -- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Sequential, Concat, Sum])
def test_what_a_container_takes(kind):
    with pytest.raises(LayerError, match=f"{kind.__name__} needs at least one layer"):
        kind()
    with pytest.raises(LayerError, match="Sequential needs at least one layer"):
        kind([])
    with pytest.raises(LayerError, match=r"takes layers, got <class 'zoo.Toy'>\n  hint: use Toy\(\)"):
        kind(Toy)
    with pytest.raises(LayerError, match=r"takes layers, got None\n  hint: use a layer or a list"):
        kind(Toy(), None)
    with pytest.raises(LayerError, match=r"takes layers, got 'relu'"):
        kind([Toy(), "relu"])


def test_branches_that_disagree_are_named_with_path_and_shape():
    with pytest.raises(LayerError) as caught:
        Net([Identity(), Concat(Identity(), [Identity(), Tallest()], Identity())], (2, 3, 4), 1)
    text = str(caught.value)
    assert text.startswith("1:Concat (") and "), input (2, 3, 4)\n" in text
    assert "branches disagree in (H, W): 1/0 (2, 3, 4), 1/1 (2, 1, 4), 1/2 (2, 3, 4)" in text
    assert "hint: choose strides and pads" in text
    with pytest.raises(LayerError) as caught:
        Net(Sum(Identity(), Times(copies=2)), (2, 3, 4), 1)
    assert "branches disagree in (C, H, W): 0 (2, 3, 4), 1 (4, 3, 4)" in str(caught.value)
    with pytest.raises(LayerError, match=re.escape("(H, W): Identity (2, 3, 4), Tallest (2, 1, 4)")):
        Concat(Identity(), Tallest()).configure((2, 3, 4))


def test_nothing_is_bound_when_shapes_do_not_fit(monkeypatch):
    monkeypatch.setattr(CPU, "empty", lambda *_: pytest.fail("memory was allocated"))
    good = Toy()
    with pytest.raises(LayerError):
        Net(Concat(good, Tallest()), (2, 3, 4), 1)
    assert not good.bound


def test_an_object_is_used_in_one_place():
    layer = Toy()
    with pytest.raises(LayerError, match=r"this object is used at 0 and at") as caught:
        Net([layer, Identity(), Sum(Identity(), layer)], (2, 3, 4), 1)
    assert "layer.twin()" in str(caught.value)
    net = Net([Identity(), layer], (2, 3, 4), 1)
    with pytest.raises(LayerError, match=r"this object is bound in another net"):
        Net([layer], (2, 3, 4), 1)
    with pytest.raises(LayerError, match=r"this object is bound in another net"):
        Net(net.graph, (2, 3, 4), 1)
    assert layer.path == "1"


# -- twins ------------------------------------------------------------------------------------------


def test_twins_share_a_parameter_and_add_up_its_gradient():
    first = Toy()
    net, dx = passed(Sum(first, first.twin()))
    assert list(net.params) == ["0/toy.a"]
    assert net.params["0/toy.a"].shape == (2, 1, 1, 1)
    lone, lone_dx = passed(Toy())
    np.testing.assert_allclose(net.y, 2 * lone.y, rtol=1e-6)
    np.testing.assert_allclose(net.grads["0/toy.a"], 2 * lone.grads["toy.a"], rtol=1e-6)
    np.testing.assert_allclose(dx, 2 * lone_dx, rtol=1e-6)


def test_a_twin_may_come_before_its_original():
    first = Toy()
    twin = first.twin()
    net = Net([twin, first], (2, 3, 4), 1)
    assert list(net.params) == ["1/toy.a"]
    assert twin.p is first.p and twin.g is first.g
    report = check_layer(lambda: (toy := Toy()) and Sequential(toy.twin(), toy), (2, 3, 4))
    assert report.ok, str(report)


def test_a_twin_of_a_container_shares_everything_inside():
    block = Sequential(Toy(), Sum(Toy(), Centre()))
    net = Net([block, block.twin()], (2, 3, 4), 2)
    assert list(net.params) == ["0/0/toy.a", "0/1/0/toy.a"]
    assert list(net.persistent) == ["0/1/1/centre.mean", "1/1/1/centre.mean"]  # each has its own statistics


def test_a_twin_without_its_original():
    layer = Toy()
    with pytest.raises(LayerError, match=r"the original of this twin is not in this net"):
        Net([Identity(), layer.twin()], (2, 3, 4), 1)
    Net([layer, layer.twin()], (2, 3, 4), 1)  # the failure left the layer free


def test_a_twin_of_another_shape():
    layer = Toy()
    with pytest.raises(
        LayerError, match=r"shares a of shape \(2, 1, 1, 1\) with 0:Toy .*, needs \(4, 1, 1, 1\)"
    ):
        Net([layer, Times(copies=2), layer.twin()], (2, 3, 4), 1)


def test_asking_for_shapes_leaves_a_bound_graph_alone():
    net = Net(Concat(Identity(), Conv(2, 1)), (3, 4, 4), 2)
    x = np.ones((3, 4, 4, 2), "float32")
    y = net.fprop(x).copy()
    assert net.graph.out_shape((5, 4, 4)) == (7, 4, 4)
    np.testing.assert_array_equal(net.fprop(x), y)
