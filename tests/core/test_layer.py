"""The layer contract: names, places, declarations, errors, copies."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from zoo import Toy

from minet import (
    SGD,
    Adam,
    AdamW,
    Concat,
    Layer,
    LayerError,
    MinetError,
    Net,
    Param,
    Sequential,
    SoftmaxCrossEntropy,
    State,
    Sum,
    update,
)  # fmt: skip
from minet.core.node import Named
from minet.layers import BatchNorm, Conv, Identity, Linear, PReLU, ReLU, all_layers
from minet.testing import run
from minet.testing.examples import examples

HERE = Path(__file__).name


def line() -> int:
    """The line of the caller."""
    return inspect.stack()[1].lineno


def made_on(layer: Layer) -> int:
    file, number = layer.made_at
    assert Path(file).name == HERE
    return number


class Odd(Toy):
    """Takes an odd H only."""

    def out_shape(self, in_shape):
        if in_shape[1] % 2 == 0:
            raise self.error(f"H={in_shape[1]} is even", "crop a row")
        return in_shape


# -- names and places -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("Conv", "conv"), ("GaussianPool", "gaussian_pool"), ("PReLU", "prelu"), ("ReLU", "relu"),
        ("LRN", "lrn"), ("BatchNorm", "batch_norm"), ("Conv2D", "conv2d"), ("MyOwnThing", "my_own_thing"),
    ],
)  # fmt: skip
def test_stem(name, stem):
    assert type(name, (Layer,), {}).stem() == stem


def test_made_at_is_the_line_that_calls_the_class():
    assert made_on(Toy()) == line()
    layers = [
        Toy(),
        Toy(),
    ]
    assert [made_on(layer) - line() for layer in layers] == [-3, -2]


def make_toy():
    return Toy()


class Block(Sequential):
    def __init__(self, last):
        super().__init__(Toy(), [Toy(), last])


class Swish(Toy):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale


def test_made_at_in_helpers_and_constructors():
    assert made_on(make_toy()) == inspect.getsourcelines(make_toy)[1] + 1
    assert made_on(Swish(2)) == line()
    block, here = Block(Toy()), line()
    inside = inspect.getsourcelines(Block.__init__)[1] + 1
    assert made_on(block) == here
    first, nested = block.children
    assert (made_on(first), made_on(nested), made_on(nested.children[0])) == (inside, inside, inside)
    assert made_on(nested.children[1]) == here


def test_made_at_of_a_sequential_that_a_list_becomes():
    branch, here = Concat([Toy()], (Toy(),)), line()
    assert [made_on(child) for child in branch.children] == [here, here]
    net, here = Net([Toy(), Toy()], (1, 2, 3), 1), line()
    assert made_on(net.graph) == here


def test_made_at_of_a_twin_is_where_it_was_made():
    first = Toy()
    second, here = first.twin(), line()
    assert made_on(second) == here
    assert made_on(first.clone()) == made_on(first)


def test_path_full_path_and_where():
    layer, here = Toy(), line()
    assert (layer.path, layer.full_path) == ("", "toy")
    assert layer.where.startswith("Toy (") and layer.where.endswith(f"{HERE}:{here})")
    Net(Sequential(Identity(), Concat(Identity(), layer)), (1, 2, 3), 1)
    assert (layer.path, layer.full_path) == ("1/1", "1/1/toy")
    assert layer.where.startswith("1/1:Toy (")


def test_where_is_relative_to_the_working_directory(monkeypatch):
    layer, here = Toy(), line()
    monkeypatch.chdir(Path(__file__).parent)
    assert layer.where == f"Toy ({HERE}:{here})"


def test_where_of_code_without_a_file():
    scope = {"Toy": Toy}
    exec(compile("layer = Toy()", "<string>", "exec"), scope)
    assert scope["layer"].where == "Toy (<string>:1)"


def test_repr_is_what_was_typed():
    assert repr(Swish(2)) == "Swish(2)"
    assert repr(Swish(scale="a")) == "Swish(scale='a')"
    assert repr(Swish(scale=np.tanh)) == f"Swish(scale={np.tanh!r})"
    assert repr(Swish(make_toy)) == "Swish(make_toy)"
    assert repr(Swish(Toy)) == "Swish(Toy)"
    assert repr(Swish(np.zeros((2, 3)))) == "Swish(<array (2, 3)>)"
    assert repr(Sum(Toy(), [Swish(1), Identity()])) == "Sum(Toy(), Sequential(Swish(1), Identity()))"


def test_walk_is_parents_first_in_forward_order():
    a, b, c = Toy(), Toy(), Toy()
    inner = Concat(b, c)
    graph = Sequential(a, inner)
    assert list(graph.walk()) == [graph, a, inner, b, c]
    assert list(a.walk()) == [a]


# -- declarations -----------------------------------------------------------------------------------


def test_defaults_of_declarations():
    assert Param((2, 3)) == Param((2, 3), 0.0, decay=True, lr=1.0, bounds=None)
    assert State((2,)) == State((2,), None, per_sample=True, persistent=False, scratch=False, init=0.0)
    assert Layer().params((1, 2, 3)) == {} == Layer().state((1, 2, 3), (1, 2, 3))
    assert Layer().children == ()


def test_methods_that_a_subclass_must_write():
    class Empty(Layer):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty does not declare out_shape"):
        Empty().configure((1, 2, 3))
    with pytest.raises(NotImplementedError, match=r"Empty has no examples\(\)"):
        Empty.examples()


@pytest.mark.parametrize(
    "shape", [(3, 4), (3, 4, 5, 6), (0, 4, 5), (3, -4, 5), (3, 4.0, 5), (3, True, 5), (3, "4", 5)]
)
def test_an_invalid_input_shape(shape):
    with pytest.raises(LayerError, match=r"three positive whole numbers \(C, H, W\)") as caught:
        Toy().configure(shape)
    assert f"input {shape}" in str(caught.value)


@pytest.mark.parametrize("out", [None, 3, [1, 2, 3], (1, 2), (1, 2, 0), (1, 2, 3.0), (1, 2, -3)])
def test_an_invalid_output_shape(out):
    layer = Toy()
    layer.out_shape = lambda in_shape: out
    message = f"out_shape returned {out!r}, which is not (K, P, Q)"
    with pytest.raises(LayerError, match=re.escape(message)) as caught:
        layer.configure((1, 2, 3))
    assert "hint: leave out the batch size; if the input does not fit, raise" in str(caught.value)


def test_numpy_integers_are_sizes():
    assert Toy().configure(tuple(np.array([1, 2, 3]))) == (1, 2, 3)


# -- errors -----------------------------------------------------------------------------------------


def test_error_shows_path_class_line_input_and_hint(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    graph, here = Sequential(Toy(), Sum(Toy(), [Toy(), Odd()])), line()
    with pytest.raises(LayerError) as caught:
        Net(graph, (3, 4, 5), 2)
    assert str(caught.value) == (
        f"1/1/1:Odd ({HERE}:{here}), input (3, 4, 5)\n"  #
        "  H=4 is even\n"
        "  hint: crop a row"
    )
    assert (caught.value.message, caught.value.hint) == ("H=4 is even", "crop a row")
    assert caught.value.layer is graph.children[1].children[1].children[1]


def test_error_without_hint_or_shape():
    layer = Toy()
    assert str(layer.error("is odd")) == f"{layer.where}\n  is odd"
    assert str(layer.error("is odd", in_shape=(1, 2, 3))) == f"{layer.where}, input (1, 2, 3)\n  is odd"
    assert str(LayerError("is odd", "so")) == "is odd\n  hint: so"


def test_a_bare_layer_error_learns_where_it_was_raised():
    class Plain(Toy):
        def out_shape(self, in_shape):
            raise LayerError("no")

    layer = Plain()
    with pytest.raises(LayerError) as caught:
        layer.configure((1, 2, 3))
    assert str(caught.value) == f"{layer.where}, input (1, 2, 3)\n  no"


def test_a_layer_without_maths():
    class Mute(Layer):
        def out_shape(self, in_shape):
            return in_shape

    net = Net(Mute(), (2, 3, 4), 2)
    with pytest.raises(LayerError, match=r"Mute has no fprop_cpu and does not override fprop") as caught:
        net.fprop(np.zeros((2, 3, 4, 2)))
    assert "hint: write fprop_cpu(...)" in str(caught.value)
    net.x = np.zeros((2, 3, 4, 2), "float32")
    with pytest.raises(LayerError, match=r"Mute has no bprop_cpu and does not override bprop"):
        net.bprop(np.zeros((2, 3, 4, 2)))


# -- Named and update -------------------------------------------------------------------------------


def test_named_reads_as_attributes():
    named = Named(mean=1, sigma=2)
    assert (named["mean"], named.mean, list(named)) == (1, 1, ["mean", "sigma"])
    with pytest.raises(AttributeError, match=r"no 'bias'; available: mean, sigma"):
        named.bias
    with pytest.raises(AttributeError, match=r"no 'bias'; available: nothing"):
        Named().bias
    assert not hasattr(named, "__deepcopy__")


@pytest.mark.parametrize("beta", [0, 0.0, 1, 0.5, -2.0, np.float32(0.25)])
def test_update(beta):
    out, value = np.array([1.0, 2.0], "float32"), np.array([10.0, 20.0])
    update(out, value, beta)
    np.testing.assert_array_equal(out, [beta * 1 + 10, beta * 2 + 20])
    np.testing.assert_array_equal(value, [10, 20])
    assert out.dtype == np.float32


def test_update_at_beta_0_reads_nothing():
    out = np.full(3, np.nan)
    update(out, np.arange(3.0), 0.0)
    np.testing.assert_array_equal(out, [0, 1, 2])


# -- copies -----------------------------------------------------------------------------------------


def test_a_clone_is_unbound_and_keeps_the_settings():
    layer = Swish(3)
    Net(layer, (2, 3, 4), 2)
    other = layer.clone()
    assert (other.scale, repr(other), type(other)) == (3, "Swish(3)", Swish)
    assert layer.bound and not other.bound and other.path == ""
    assert not hasattr(other, "p")
    Net(other, (2, 3, 4), 2)
    assert not np.shares_memory(other.p.a, layer.p.a)


def test_the_clone_of_a_container_has_clones_inside():
    graph = Sequential(Toy(), Sum(Toy(), Identity()))
    other = graph.clone()
    assert repr(other) == repr(graph)
    assert not set(graph.walk()) & set(other.walk())


def test_twins_inside_stay_twins_in_a_clone():
    first = Toy()
    graph = Sequential(first, Sum(Identity(), [first.twin(), Toy()]))
    other = graph.clone()
    one, _, _, _, two, three = [layer for layer in other.walk() if layer is not other]
    assert two.tied is one and one.tied is None and three.tied is None
    net = Net(other, (2, 3, 4), 1)
    assert list(net.params) == ["0/toy.a", "1/1/1/toy.a"]
    assert two.p.a is one.p.a and first.bound is False


class Both(Layer):
    """Two layers one after the other, and a twin of the first, not as a Container has them."""

    def __init__(self, first, last):
        self.first, self.rest = first, {"more": [first.twin(), last]}

    @property
    def children(self):
        return self.first, *self.rest["more"]

    def out_shape(self, in_shape):
        return in_shape

    def state(self, in_shape, out_shape):
        return {"between": State(in_shape), "again": State(in_shape)}

    def fprop(self, x, y, beta=0.0, train=True):
        for layer, out in zip(self.children, (self.s.between, self.s.again, y), strict=True):
            layer.fprop(x, out, beta if out is y else 0.0, train)
            x = out


def test_a_layer_with_children_of_its_own_is_cloned_with_them():
    net = Net([Both(Toy(), Identity())], (2, 3, 4), 2)
    other = copy.deepcopy(net)
    images = np.ones((2, 2, 3, 4))
    np.testing.assert_array_equal(other.predict(images), net.predict(images))
    assert list(other.params) == list(net.params)
    assert not set(net.graph.walk()) & set(other.graph.walk())
    assert other["0"].rest["more"][0].tied is other["0"].first
    twin = net["0"].twin()
    assert [layer.tied for layer in twin.children] == [net["0"].first, net["0"].first, net["0"].children[2]]


def test_a_twin_of_a_twin_is_a_twin_of_the_first():
    first = Toy()
    assert first.twin().twin().tied is first
    assert first.twin().clone().tied is None


@pytest.mark.sweep(2)
@pytest.mark.parametrize("cls", [*all_layers(), Sequential, Concat, Sum], ids=lambda cls: cls.__name__)
def test_a_clone_of_a_layer_that_has_run_keeps_nothing_of_its_run(cls):
    """What it remembers besides its arrays, such as tables, belongs to the old size, type and channels."""
    draw = np.random.default_rng(0)
    for make, (C, H, W) in examples(cls):
        for shape, dtype in (
            ((C, H + 2, W), "float32"), ((C, H, W + 3), "float32"), ((C + 1, H, W), "float32"),
            ((C, H, W), "float64"),
        ):  # fmt: skip
            used = make()
            net = Net(used, (C, H, W), 2)
            net.bprop(net.fprop(draw.standard_normal((C, H, W, 2)).astype("float32"), train=True))
            x = draw.standard_normal((*shape, 3))
            try:
                dy = draw.standard_normal((*make().configure(shape), 3))
                fresh = run(make(), x, dy, dtype=dtype)
            except LayerError:  # its settings are for C channels
                continue
            again = run(used.clone(), x, dy, dtype=dtype)
            for name, value in {"y": fresh.y, "dx": fresh.dx, **fresh.grads, **fresh.state}.items():
                found = {"y": again.y, "dx": again.dx, **again.grads, **again.state}[name]
                np.testing.assert_array_equal(found, value, err_msg=f"{name} of {make()} on {shape}, {dtype}")


@pytest.mark.parametrize("cls", [*all_layers(), Sequential, Concat, Sum], ids=lambda cls: cls.__name__)
def test_by_default_a_layer_trains_and_overwrites(cls):
    """fprop(x, y) and bprop(x, dy, dx) are those of beta 0 in training: old contents count for nothing."""
    for make, in_shape in examples(cls):
        results = []
        for settings in ((), (0.0, True)):
            net = Net(make(), in_shape, 2, dtype="float64")
            draw = np.random.default_rng(0)
            x, dy = draw.standard_normal((*in_shape, 2)), draw.standard_normal((*net.output_shape, 2))
            y, dx = np.full(dy.shape, np.nan), np.full(x.shape, np.nan)
            net.graph.fprop(x, y, *settings)
            net.graph.bprop(x, dy, dx, *settings[:1])
            results.append((y, dx))
        for got, expected in zip(*results, strict=True):
            assert np.isfinite(got).all()
            np.testing.assert_array_equal(got, expected)


def test_errors_of_minet_have_one_base():
    assert issubclass(LayerError, MinetError)
    assert str(MinetError("a")) == "a" and str(MinetError("a", "b")) == "a\n  hint: b"


# -- frozen layers --------------------------------------------------------------------------------------


def parts():
    """A net that learns everywhere, with twins inside."""
    first = Conv(3, 3, pad=1)
    return [Sequential(first, BatchNorm(), Sum(PReLU(), Identity()), first.twin()), PReLU(), Linear(3)]


def steps(graph, backend, solver):
    net = Net(graph, (3, 4, 4), 5, SoftmaxCrossEntropy(), backend)
    before = {path: np.array(net.be.get(value)) for path, value in net.params.items()}
    for i in range(3):
        x = np.random.default_rng(i).standard_normal((3, 4, 4, 5)).astype("float32")
        net.train_step(x, np.arange(5) % 3, solver)
    changed = {
        path for path, value in before.items() if (np.array(net.be.get(net.params[path])) != value).any()
    }
    return net, changed


@pytest.mark.parametrize(
    "make", [lambda: SGD(0.1, momentum=0.9, weight_decay=0.1), lambda: AdamW(clip_norm=0.1)]
)
def test_what_is_frozen_keeps_its_bits(make, backend):
    _, changed = steps(parts(), backend, make())
    assert changed == {
        "0/0/conv.w", "0/0/conv.b", "0/1/batch_norm.gamma", "0/1/batch_norm.shift", "0/2/0/prelu.a",
        "1/prelu.a", "2/linear.w", "2/linear.b",
    }  # fmt: skip
    graph = parts()
    assert graph[0].freeze() is graph[0]
    net, changed = steps(graph, backend, make())
    assert changed == {"1/prelu.a", "2/linear.w", "2/linear.b"}
    assert np.any(net.be.get(net.persistent["0/1/batch_norm.running_mean"]))  # statistics are no parameters


def test_all_layers_may_be_frozen(backend):
    assert steps(Sequential(*parts()).freeze(), backend, Adam(clip_norm=1.0))[1] == set()


@pytest.mark.parametrize(
    "copied", [lambda layer: layer.clone(), copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_a_copy_is_frozen_too(copied):
    assert copied(Conv(3, 3).freeze()).frozen and not copied(Conv(3, 3)).frozen
    graph = copied(Sequential(Conv(3, 3), Concat(Linear(2))).freeze())
    assert all(layer.frozen for layer in graph.walk())
    net = Net([Conv(3, 3, pad=1).freeze(), Linear(3)], (3, 4, 4), 5, SoftmaxCrossEntropy())
    other = copied(net) if copied is copy.deepcopy else pickle.loads(pickle.dumps(net))
    assert [slot.param.lr for slot in other.slots] == [0, 0, 1, 1]


def test_freezing_too_late_or_the_twin_alone_is_refused():
    first = Conv(3, 3, pad=1)
    with pytest.raises(LayerError, match=r"(?s)has the parameters of Conv .*hint: freeze that layer"):
        Sequential(PReLU(), first.twin()).freeze()
    assert not first.frozen
    net = Net([first], (3, 4, 4), 5)
    with pytest.raises(LayerError, match=r"(?s)Sequential .*is bound already.*hint: call it before Net"):
        net.graph.freeze()


def test_a_summary_shows_what_is_frozen():
    lines = Net([Conv(4, 3).freeze(), ReLU().freeze(), Linear(2)], (3, 4, 4), 5).summary().splitlines()
    assert "Conv(4, 3).freeze()" in lines[2] and "freeze" not in lines[3] + lines[4]
    assert lines[-1].startswith("146 parameters (112 frozen), input 3x4x4")
