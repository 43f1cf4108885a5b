"""Networks out: each layer in onnxruntime gives what it gives in minet, whatever it is and whatever batch."""

import hashlib
import re

import numpy as np
import onnx
import pytest

import minet.onnx
from minet import Concat, Layer, MinetError, Net, Sequential, Sum
from minet.layers import (
    LRN,
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    Elementwise,
    GaussianPool,
    Identity,
    Linear,
    MaxPool,
    PReLU,
    ReLU,
    StochasticPool,
    all_layers,
)  # fmt: skip
from minet.onnx import export_net
from minet.onnx.export_check import relative_to_scale, started

EXAMPLES = [
    pytest.param(make, shape, id=f"{cls.__name__}-{i}")
    for cls in all_layers()
    for i, (make, shape) in enumerate(cls.examples())
]


def perturbed(layers, shape, batch=3, **settings):
    """A net whose parameters and running statistics are none of those that it starts with."""
    net, rng = Net(layers, shape, batch, **settings), np.random.default_rng(1)
    for value in net.params.values():
        value += rng.normal(0, 0.3, value.shape)
    for value in net.persistent.values():
        value[...] = rng.uniform(0.5, 1.5, value.shape)
    return net


def exported(net, file, images=None, **settings):
    """What an exported model gives for images, and what its net gives."""
    reported = minet.onnx.export(net, file, images=images, **settings)
    if images is None:
        images = np.random.default_rng(2).normal(size=(5, *net.input_shape)).astype(np.float32)
    session = started(onnx.load(file))
    found = session.run(None, {"x": images})[0]
    assert reported <= 1e-5
    return found, net.predict(images)


def close(found, expected, tolerance=2e-6):
    assert found.shape == expected.shape and found.dtype == np.float32
    assert relative_to_scale(found, expected) <= tolerance


@pytest.mark.sweep(6)
@pytest.mark.parametrize(("make", "shape"), EXAMPLES)
def test_each_layer_gives_what_it_gives_in_minet(make, shape, tmp_path):
    close(*exported(perturbed([make()], shape), tmp_path / "m.onnx"))


BOUNDS = [(3, 1, 2), (4, 3, (3, 1)), ((1, 5), 1, ((0, 0), (4, 0))), (3, 2, ((0, 1), (2, 0)))]


@pytest.mark.parametrize("geometry", BOUNDS, ids=str)
@pytest.mark.parametrize("normalize", ["sum", "l2", "none"])
@pytest.mark.parametrize("shape", ["diagonal", "full"])
@pytest.mark.parametrize("edge", ["exact", "zero"])
@pytest.mark.parametrize("sigma", [0.3, 1.1, 40.0])
def test_gaussian_windows_over_edges_have_their_own_weights(
    geometry, normalize, shape, edge, sigma, tmp_path
):
    """Also if the mean is so far outside that an edge has none of a whole window's weights in float32."""
    mean = (-6.0, 5.0) if sigma == 0.3 else (0.4, -0.8)
    settings = {"normalize": normalize, "shape": shape, "edge": edge, "sigma": sigma, "mean": mean}
    net = Net([GaussianPool(*geometry, kernels=2, **settings)], (2, 6, 7), 3)
    close(*exported(net, tmp_path / "m.onnx"), 1e-5)


def test_a_gaussian_windows_weights_at_an_edge_by_hand(tmp_path):
    net = Net([GaussianPool((1, 3), 1, (0, 1), sigma=(1, 0.5))], (1, 1, 3), 2)
    x, beside = np.array([1.0, 10.0, 100.0], np.float32), np.exp(-2.0)
    found, _ = exported(net, tmp_path / "m.onnx", x.reshape(1, 1, 1, 3))
    expected = [
        (1 + 10 * beside) / (1 + beside),
        (10 + 101 * beside) / (1 + 2 * beside),
        (100 + 10 * beside) / (1 + beside),
    ]
    assert found.ravel() == pytest.approx(expected, rel=1e-6)


def test_kernels_keep_their_order(tmp_path):
    """Kernel by kernel, in each the maps: not map by map, as a grouped convolution has them."""
    sigma = np.array([[0.3, 0.3], [50.0, 50.0]])
    net = Net([GaussianPool(None, kernels=2, sigma=sigma, mean=0)], (3, 3, 3), 2)
    x = np.zeros((1, 3, 3, 3), np.float32)
    x[0, :, 1, 1] = [9.0, 90.0, 900.0]
    found, _ = exported(net, tmp_path / "m.onnx", x)
    assert found[0, :3] == pytest.approx([9.0, 90.0, 900.0], rel=0.02)
    assert found[0, 3:] == pytest.approx([1.0, 10.0, 100.0], rel=0.01)


def test_stochastic_pooling_by_its_rule_for_evaluation(tmp_path):
    net = Net([StochasticPool(2)], (1, 2, 6), 2)
    x = np.array([[1.0, 2.0, -1.0, -2.0, 0.0, 0.0], [3.0, -9.0, -3.0, -4.0, 0.0, 5.0]], np.float32)
    found, _ = exported(net, tmp_path / "m.onnx", x[None, None])
    assert found.ravel() == pytest.approx([14 / 6, 0.0, 5.0])


EXPRESSIONS = {
    "expm1(a*x) - 1e-3*log1p(x*x)": {"a": 1e-3},
    "log1p(exp(x)) / (1 + abs(x)**1.5)": {},
    "x**3 / (1 + a*x**2) - 2/(3 + x**2)": {"a": [0.5, 0.7]},
    "sqrt(abs(x)) * cos(x) + sin(x) / 3": {},
    "where(x > 0 and not x >= 1 or x == 3, x, a*x)": {"a": 0.2},
    "max(x, a) + min(x, 0.5) + relu(x - 1) + softplus(x)": {"a": 0.2},
    "where(x != x, 0, -x) + where(x <= 0 and x < 1, erf(x), tanh(x))": {},
    "a**x - exp(-x)": {"a": 2.0},
}


@pytest.mark.sweep(5)
@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("before", [[], [Linear(2)]], ids=["maps", "numbers"])
def test_an_expression_becomes_nodes(expression, before, tmp_path):
    before = [layer.clone() for layer in before]
    net = Net([*before, Elementwise(expression, **EXPRESSIONS[expression])], (2, 4, 5), 3)
    close(*exported(net, tmp_path / "m.onnx"))


def test_what_occurs_twice_in_an_expression_is_computed_once(tmp_path):
    exported(Net([Elementwise("tanh(x)**2 + tanh(x)")], (1, 2, 2), 1), tmp_path / "m.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node].count("Tanh") == 1


NAMED = {
    "min(max(x, 0), 6)": "Max Min",
    "x * max(0, min(1, x / 6 + 0.5))": "Add Max Min Mul Mul",
    "where(x > 0, x, 0.2 * x)": "LeakyRelu",
    "max(x, a) - relu(x)": "Add Max Max Mul",
    "where(x > 0, x, 0)": "Greater Where",  # of a NaN it is 0
    "where(x <= a or a > 3, a, x)": "Greater LessOrEqual Or Where",
}


@pytest.mark.parametrize("expression", NAMED)
def test_a_condition_that_onnx_has_an_operator_for_is_one(expression, tmp_path):
    given = {"a": 0.5} if re.search(r"\ba\b", expression) else {}
    close(*exported(Net([Elementwise(expression, **given)], (2, 3, 3), 2), tmp_path / "m.onnx"))
    found = sorted(node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node)
    assert " ".join(found) == NAMED[expression]


@pytest.mark.parametrize("expression", [*list(NAMED)[:3], "x * sigmoid(x)"])
def test_activations_that_were_written_are_read_again(expression, tmp_path):
    net = Net([Elementwise(expression)], (2, 3, 3), 2)
    minet.onnx.export(net, tmp_path / "m.onnx")
    x = 4 * np.random.default_rng(0).standard_normal((2, 2, 3, 3), np.float32)
    again = Net(*minet.onnx.load(tmp_path / "m.onnx")[:2], 2)
    np.testing.assert_allclose(again.predict(x), net.predict(x), atol=1e-5)


NETS = {
    "numbers": lambda: [
        Linear(5), ReLU(), PReLU(), BatchNorm(), Dropout(0.1), Linear(3),
        Concat(Identity(), [ReLU(), Linear(4)]), Sum(Linear(3), [PReLU(), Linear(3)], Linear(3)),
    ],
    "maps of one pixel": lambda: [Linear(5), LRN(3), MaxPool(1), Conv(4, 1), ReLU(), Linear(2)],
    "both": lambda: [Concat(Linear(5), [AvgPool()]), Linear(2)],
    "nested": lambda: [
        Concat(Conv(2, 3, pad=1), Identity(), [MaxPool(3, 1, 1), Conv(3, 1)]), ReLU(), Conv(2, 3),
    ],
    "a sum of maps": lambda: [Sum(Conv(2, 3, pad=1), Identity(), AvgPool(3, 1, 1)), Conv(3, 1)],
    "nothing": lambda: Identity(),
    "one branch": lambda: [Concat(ReLU()), Sum(Identity())],
}  # fmt: skip


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", NETS)
def test_nets(name, tmp_path):
    close(*exported(perturbed(NETS[name](), (2, 5, 4)), tmp_path / "m.onnx"))


def test_weights_that_are_shared_are_kept_once(tmp_path):
    conv = Conv(2, 3, pad=1)
    close(*exported(perturbed([conv, ReLU(), conv.twin()], (2, 5, 4)), tmp_path / "m.onnx"))
    assert [c.name for c in onnx.load(tmp_path / "m.onnx").graph.initializer] == ["0/conv.w", "0/conv.b"]


@pytest.mark.slow
def test_a_net_in_float64_and_one_on_another_backend(tmp_path):
    for settings in ({"dtype": "float64"}, {"backend": "emu"}):
        close(
            *exported(Net([Conv(2, 3), GaussianPool(3, 1, 1)], (2, 5, 4), 2, **settings), tmp_path / "m.onnx")
        )


def test_the_file_says_what_it_is_and_is_the_same_each_time(tmp_path):
    net = perturbed([Conv(2, 3), ReLU(), Linear(4)], (3, 5, 4))
    sums = set()
    for name in ("a", "b"):
        minet.onnx.export(
            net, tmp_path / name, mean=[1, 2, 3], std=2, facts={"classes": ["cat"], "model": "m"}
        )
        sums.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(sums) == 1
    model = onnx.load(tmp_path / "a")
    assert (model.opset_import[0].version, model.producer_name) == (17, "minet")
    assert {p.key: p.value for p in model.metadata_props} == {"classes": '["cat"]', "model": "m"}
    (x,), (y,) = model.graph.input, model.graph.output
    sizes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (x, y)]
    assert sizes == [["N", 3, 5, 4], ["N", 4]]
    assert [node.op_type for node in model.graph.node] == ["Sub", "Div", "Conv", "Relu", "Flatten", "Gemm"]
    assert model.graph.node[2].name == "0/conv/Conv"


def test_a_model_normalises_its_input(tmp_path):
    net = perturbed([Conv(2, 3), Linear(4)], (3, 5, 4))
    images = np.random.default_rng(0).uniform(0, 255, (3, 3, 5, 4)).astype(np.float32)
    mean, std = np.array([100.0, 110.0, 120.0], np.float32), np.array([60.0, 61.0, 62.0], np.float32)
    minet.onnx.export(net, tmp_path / "m.onnx", mean=mean, std=std, images=images)
    found = started(onnx.load(tmp_path / "m.onnx")).run(None, {"x": images})[0]
    close(found, net.predict((images - mean[:, None, None]) / std[:, None, None]))


# -- layers of one's own ------------------------------------------------------------------------------------


class Own(Layer):
    def out_shape(self, in_shape):
        return in_shape

    def fprop_cpu(self, x, y, beta, train):
        y[...] = x * x + 1


class Translated(Own):
    def to_onnx(self, graph, x):
        return graph.add("Add", graph.add("Mul", x, x), 1)


class Block(Sequential):
    """A container with a form of its own."""

    def to_onnx(self, graph, x):
        return graph.add("Relu", x)


class Off(ReLU):
    """Derived from a layer that has a form, but another function."""

    def fprop_cpu(self, x, y, beta, train):
        y[...] = x + 1


def refused(layers, tmp_path, shape=(2, 5, 4), **settings):
    with pytest.raises(MinetError) as error:
        minet.onnx.export(Net(layers, shape, 2), tmp_path / "m.onnx", **settings)
    assert not list(tmp_path.iterdir())
    return str(error.value)


def test_a_layer_of_ones_own_brings_its_translation(tmp_path):
    close(
        *exported(perturbed([Translated(), Conv(2, 3), Linear(2), Translated()], (2, 5, 4)), tmp_path / "a")
    )
    close(*exported(Net([Block(ReLU()), Conv(2, 3)], (2, 5, 4), 2), tmp_path / "b"))


def test_all_layers_without_a_translation_are_named(tmp_path):
    message = refused([Own(), Concat(Own(), [ReLU(), Own()])], tmp_path)
    assert re.findall(r"^  (\S+):Own \(", message, re.MULTILINE) == ["0", "1/0", "1/1/1"]
    assert "to_onnx" in message


def test_a_layer_whose_translation_is_wrong_is_named_and_nothing_is_written(tmp_path):
    message = refused([Conv(2, 3, pad=1), PReLU(), Off(), Conv(2, 3)], tmp_path)
    assert "of the largest, beginning at 2:Off (" in message


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (lambda graph, x: None, "to_onnx returned None"),
        (lambda graph, x: 1 / 0, "to_onnx failed: ZeroDivisionError"),
        (lambda graph, x: graph.add("Nonsense", x), "is not valid: .*0/own/Nonsense"),
        (lambda graph, x: graph.add("Add", x, np.zeros((7, 7))), "is not valid: .*0/own/Add"),
        (lambda graph, x: graph.add("Sqrt", graph.add("Sub", x, 1e9)), "differ from the net's by (nan|inf)"),
        (lambda graph, x: graph.add("ReduceSum", x, [1]), r"gives \(2, 1, 5, 4\)|is not valid"),
    ],
)
def test_a_translation_that_fails_is_named(form, why, tmp_path):
    layer = Own()
    layer.to_onnx = form
    assert re.search(why, refused([layer], tmp_path))


def test_settings_that_do_not_fit_are_refused(tmp_path):
    assert "mean has 3 numbers, the net 2 channels" in refused([ReLU()], tmp_path, mean=[1, 2, 3])
    assert "std above 0" in refused([ReLU()], tmp_path, std=0)
    assert "images to check with must be" in refused([ReLU()], tmp_path, images=np.zeros((2, 3, 5, 4)))
    net = Net([Conv(2, 3)], (2, 5, 4), 2)
    net.params["0/conv.w"][0] = np.nan
    with pytest.raises(MinetError, match="outputs are not finite"):
        minet.onnx.export(net, tmp_path / "m.onnx")
    with pytest.raises(MinetError, match="cannot be written"):
        minet.onnx.export(Net([ReLU()], (2, 5, 4), 2), tmp_path / "none" / "m.onnx")


def test_a_net_that_is_too_large_for_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(export_net, "MOST", 100)
    assert "of parameters" in refused([Linear(10)], tmp_path)


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named(name, tmp_path, monkeypatch):
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda one: None if one == name else find(one))
    message = refused([ReLU()], tmp_path)
    assert f"need {name}, which is not installed" in message and "minet-layers[onnx]" in message
