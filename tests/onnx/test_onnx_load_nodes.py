"""Each operator and its attributes, as minet's layers, against onnxruntime."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_models import assert_agree, by_reference, drawn, model, node
from slow import slow

from minet import MinetError
from minet.onnx import load


def positive(*shape):
    return np.abs(drawn(*shape)) + np.float32(0.5)


W = drawn(4, 3, 3, 2)
NUMBERS = {"one": np.float32(1), "half": np.float32(0.5), "root2": np.float32(2**0.5), "three": np.float32(3)}
NUMBERS |= {"zero": np.float32(0), "six": np.float32(6), "cubic": np.float32(0.044715)}
NUMBERS |= {"root": np.float32((2 / np.pi) ** 0.5)}
WINDOWS = {
    "plain": {},
    "strides": {"strides": [2, 1]},
    "pads": {"pads": [1, 0, 1, 0]},
    "pads that differ": {"pads": [0, 1, 2, 0]},
    "dilations": {"dilations": [2, 3]},
    "valid": {"auto_pad": "VALID"},
    "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
    "all": {"pads": [2, 1, 0, 1], "strides": [1, 2], "dilations": [2, 1]},
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("settings", WINDOWS.values(), ids=WINDOWS)
def test_conv(settings, bias, tmp_path):
    constants = {"w": W} | ({"b": drawn(4)} if bias else {})
    assert_agree(model([node("Conv", " ".join(["x", *constants]), **settings)], constants), tmp_path)


def test_conv_in_groups(tmp_path):
    constants = {"w": drawn(6, 2, 3, 3), "b": drawn(6)}
    made = model([node("Conv", "x w b", group=2, kernel_shape=[3, 3])], constants, (1, 4, 6, 5))
    assert_agree(made, tmp_path, batch=1)
    made = model([node("Conv", "x w b", group=3)], {"w": drawn(6, 1, 2, 2), "b": drawn(6)})
    assert_agree(made, tmp_path)


POOLS = {name: settings for name, settings in WINDOWS.items() if name != "same lower"} | {
    "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    "ceil": {"strides": [2, 2], "ceil_mode": 1},
    "ceil and pads": {"strides": [2, 2], "pads": [1, 1, 0, 1], "ceil_mode": 1},
    "strides of the window": {"strides": [3, 2]},
}


@pytest.mark.parametrize("settings", POOLS.values(), ids=POOLS)
def test_max_pool(settings, tmp_path):
    assert_agree(model([node("MaxPool", "x", kernel_shape=[3, 2], **settings)]), tmp_path)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("settings", POOLS.values(), ids=POOLS)
def test_average_pool(settings, counted, tmp_path):
    settings = {"kernel_shape": [3, 2], "count_include_pad": counted} | settings
    opset = 19 if "dilations" in settings else 17
    assert_agree(model([node("AveragePool", "x", **settings)], opset=opset), tmp_path)


@pytest.mark.parametrize("op", ["Conv", "MaxPool"])
def test_same_pads_of_a_spread_window(op, tmp_path):
    """onnxruntime has none; the package onnx does as its specification says."""
    settings = {"auto_pad": "SAME_UPPER", "dilations": [2, 1], "kernel_shape": [3, 2]}
    made = model([node(op, "x w" if op == "Conv" else "x", **settings)], {"w": W} if op == "Conv" else {})
    assert_agree(made, tmp_path, by=by_reference)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(op, tmp_path):
    assert_agree(model([node(op, "x")]), tmp_path)


@pytest.mark.parametrize(("opset", "keep"), [(13, 1), (13, 0), (18, 0)])
def test_a_mean_over_the_image(opset, keep, tmp_path):
    if opset < 18:
        made = model([node("ReduceMean", "x", axes=[2, -1], keepdims=keep)], opset=opset)
    else:
        made = model([node("ReduceMean", "x axes", keepdims=keep)], {"axes": [-1, -2]}, opset=opset)
    assert_agree(made, tmp_path)


@pytest.mark.parametrize("settings", [{"size": 3}, {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0}])
def test_lrn(settings, tmp_path):
    assert_agree(model([node("LRN", "x", **settings)], shape=(1, 8, 3, 2)), tmp_path, batch=1)


@pytest.mark.parametrize("opset", [7, 9, 15])
def test_batch_normalization(opset, tmp_path):
    constants = {"s": drawn(3), "b": drawn(3, seed=1), "m": drawn(3, seed=2), "v": positive(3)}
    made = model(
        [node("BatchNormalization", "x s b m v", epsilon=0.01, momentum=0.8)], constants, opset=opset
    )
    assert_agree(made, tmp_path)
    graph, _, weights = load(tmp_path / "made.onnx")
    assert (graph.layers[0].momentum, graph.layers[0].eps) == (0.8, 0.01)
    assert sorted(weights) == [
        f"0/batch_norm.{name}" for name in ("gamma", "running_mean", "running_var", "shift")
    ]


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    "op", ["Relu", "Sigmoid", *map(slow, ["Tanh", "Softplus", "Softsign", "Abs", "Exp", "Erf", "Neg"])]
)
def test_functions(op, tmp_path):
    assert_agree(model([node(op, "x")]), tmp_path)


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    ("op", "settings", "opset"),
    [
        ("LeakyRelu", {}, 17), ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, 17), ("Gelu", {}, 20),
        slow("LeakyRelu", {"alpha": 0.3}, 17), slow("Elu", {"alpha": 0.5}, 17), slow("Elu", {}, 17),
        slow("Selu", {}, 17), slow("HardSigmoid", {}, 17), slow("HardSwish", {}, 17), slow("Mish", {}, 18),
        slow("Gelu", {"approximate": "tanh"}, 20), slow("Sin", {}, 17), slow("Cos", {}, 17),
        slow("Celu", {"alpha": 0.5}, 17), slow("ThresholdedRelu", {"alpha": 0.5}, 17),
    ],
)  # fmt: skip
def test_functions_with_attributes(op, settings, opset, tmp_path):
    assert_agree(model([node(op, "x", **settings)], opset=opset), tmp_path)


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Reciprocal"])
def test_functions_of_what_is_above_0(op, tmp_path):
    assert_agree(model([node("Exp", "x", "e"), node(op, "e")]), tmp_path)


@pytest.mark.parametrize("exponent", [np.float32(3), np.float32(0.5), np.int64(2), np.float32([-1])])
def test_powers(exponent, tmp_path):
    assert_agree(model([node("Exp", "x", "e"), node("Pow", "e p")], {"p": exponent}), tmp_path)


@pytest.mark.parametrize("inputs", ["x c", "c x"])
@pytest.mark.parametrize("op", ["Max", "Min"])
def test_the_larger_and_the_smaller_of_x_and_a_number(op, inputs, tmp_path):
    assert_agree(model([node(op, inputs)], {"c": np.float32(0.3)}), tmp_path)
    assert_agree(model([node(op, inputs)], {"c": drawn(1, 1, 1)}), tmp_path)


@pytest.mark.parametrize(
    ("inputs", "bounds"),
    [
        ("x low high", {"low": -0.5, "high": 1.0}),
        ("x low", {"low": 0.1}),
        ("x  high", {"high": 0.2}),
        ("x", {}),
    ],
)
def test_clip(inputs, bounds, tmp_path):
    constants = {name: np.float32(value) for name, value in bounds.items()}
    assert_agree(model([node("Clip", inputs)], constants), tmp_path)


def test_clip_by_attributes(tmp_path):
    assert_agree(model([node("Clip", "x", min=0.0, max=6.0)], opset=7), tmp_path)


PRODUCTS = {
    "SiLU": ([node("Sigmoid", "r", "s"), node("Mul", "r s")], "x * sigmoid(x)"),
    "Mish": (
        [node("Softplus", "r", "s"), node("Tanh", "s", "t"), node("Mul", "t r")], "tanh(softplus(x)) * x",
    ),
    "GELU": (
        [node("Div", "r root2", "d"), node("Erf", "d", "e"), node("Add", "e one", "f"),
         node("Mul", "r f", "g"), node("Mul", "g half")], "x * (erf(0.70710677 * x) + 1.0)",
    ),
    "HardSwish": (
        [node("Add", "r three", "a"), node("Clip", "a zero six", "c"), node("Mul", "c r", "m"),
         node("Div", "m six")], "min(max(x + 3.0, 0.0), 6.0) * x",
    ),
    "GELU by tanh": (
        [node("Pow", "r three", "p"), node("Mul", "cubic p", "c"), node("Add", "r c", "s"),
         node("Mul", "s root", "m"), node("Tanh", "m", "t"), node("Add", "t one", "f"),
         node("Mul", "r half", "h"), node("Mul", "h f")],
        "0.5 * x * (tanh(0.7978846 * (x + 0.044715 * x ** 3)) + 1.0)",
    ),
    "Softsign": (
        [node("Abs", "r", "a"), node("Add", "a one", "p"), node("Div", "r p")], "x / (abs(x) + 1.0)"
    ),
    "Tanhshrink": ([node("Tanh", "r", "t"), node("Sub", "r t")], "x - tanh(x)"),
    "a square": ([node("Mul", "r r")], "x * x"),
    "of a function of it": (
        [node("Identity", "r", "i"), node("Exp", "i", "e"), node("Neg", "r", "n"), node("Mul", "n e")],
        "-x * exp(x)",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "expression"), PRODUCTS.values(), ids=PRODUCTS)
def test_products_of_functions_of_one_activation(nodes, expression, tmp_path):
    assert_agree(model([node("Relu", "x", "r"), *nodes], NUMBERS), tmp_path)
    assert load(tmp_path / "made.onnx")[0].layers[1]._call[0] == (expression,)


def test_a_product_beside_other_branches(tmp_path):
    """What its factors have been is not left behind, and what else reads them still does."""
    nodes = [
        node("Conv", "x w", "c"), node("Sigmoid", "c", "s"), node("Mul", "c s", "m"), node("Relu", "c", "r"),
        node("Concat", "m s r", axis=1),
    ]  # fmt: skip
    assert_agree(model(nodes, {"w": W}), tmp_path)
    assert [
        len(load(tmp_path / "made.onnx")[0].layers),
        len(load(tmp_path / "made.onnx")[0].layers[1].layers),
    ] == [2, 3]


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), (1,), (1, 1, 1)])
def test_p_relu(shape, tmp_path):
    assert_agree(model([node("PRelu", "x a")], {"a": drawn(*shape)}), tmp_path)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), (), (1,)])
def test_arithmetic_with_a_constant(op, shape, tmp_path):
    constants = {"c": positive(*shape)}
    assert_agree(model([node(op, "x c")], constants), tmp_path)
    if op != "Div":
        assert_agree(model([node(op, "c x")], constants), tmp_path)


def test_caffes_scale_and_shift_are_one_layer(tmp_path):
    nodes = [
        node("Unsqueeze", "a", "a2", axes=[1, 2]), node("Mul", "x a2", "m"),
        node("Unsqueeze", "b", "b2", axes=[1, 2]), node("Add", "m b2"),
    ]  # fmt: skip
    assert_agree(model(nodes, {"a": drawn(3), "b": drawn(3, seed=1)}, opset=9), tmp_path)
    graph, _, weights = load(tmp_path / "made.onnx")
    assert repr(graph) == "Sequential(Elementwise('a * x + b', a=1.0, b=0.0))"
    np.testing.assert_array_equal(weights["0/elementwise.a"], drawn(3))


@pytest.mark.parametrize(("opset", "axis"), [(11, None), (11, 1), (13, None), (13, 1), (13, -1)])
def test_softmax_of_a_matrix(opset, axis, tmp_path):
    settings = {} if axis is None else {"axis": axis}
    made = model(
        [node("Flatten", "x", "f"), node("Softmax", "f", **settings)], shape=("N", 5, 1, 1), opset=opset
    )
    assert_agree(made, tmp_path)


def test_softmax_of_maps(tmp_path):
    assert_agree(model([node("Softmax", "x", axis=1)]), tmp_path)
    assert_agree(model([node("Softmax", "x", axis=-3)]), tmp_path)
    assert_agree(model([node("Softmax", "x")], shape=("N", 5, 1, 1), opset=9), tmp_path)


@pytest.mark.parametrize(
    ("settings", "shape", "c"),
    [
        ({"transB": 1}, (4, 24), (4,)), ({}, (24, 4), (4,)), ({"transB": 1}, (4, 24), None),
        ({"transB": 1, "alpha": 0.5, "beta": 2.0}, (4, 24), (1, 4)), ({}, (24, 4), ()), ({}, (24, 4), (1,)),
        ({"beta": 0.0}, (24, 4), (4,)), ({"transB": 1}, (1, 24), (1, 1)),
    ],
)  # fmt: skip
def test_gemm_flattens_in_minets_order(settings, shape, c, tmp_path):
    constants = {"w": drawn(*shape)} | ({} if c is None else {"c": drawn(*c, seed=1)})
    nodes = [node("Flatten", "x", "f"), node("Gemm", " ".join(["f", *constants]), **settings)]
    assert_agree(model(nodes, constants, shape=("N", 2, 3, 4)), tmp_path)


@pytest.mark.parametrize("added", ["Add", None])
def test_mat_mul_and_its_bias_are_one_layer(added, tmp_path):
    nodes = [node("Flatten", "x", "f"), node("MatMul", "f w", "m" if added else "y")]
    nodes += [node("Add", "b m")] if added else []
    made = model(nodes, {"w": drawn(24, 5), "b": drawn(5)} if added else {"w": drawn(24, 5)}, ("N", 2, 3, 4))
    assert_agree(made, tmp_path)
    assert repr(load(tmp_path / "made.onnx")[0]) == f"Sequential(Linear(5{'' if added else ', bias=False'}))"


def test_a_bias_after_conv_is_its_own(tmp_path):
    made = model([node("Conv", "x w", "c"), node("Add", "c b")], {"w": W, "b": drawn(4, 1, 1)})
    assert_agree(made, tmp_path)
    assert repr(load(tmp_path / "made.onnx")[0]) == "Sequential(Conv(4, (3, 2)))"


@pytest.mark.parametrize("shape", [[0, -1], [-1, 126], [0, 126], [0, 3, 7, 6], [0, 0, 0, -1]])
def test_reshape(shape, tmp_path):
    assert_agree(model([node("Relu", "x", "r"), node("Reshape", "r s")], {"s": shape}), tmp_path)


@pytest.mark.parametrize("batch", [1, 4])
def test_reshape_for_the_batch_of_the_file(batch, tmp_path):
    nodes = [node("Relu", "x", "r"), node("Reshape", "r s", "f"), node("Gemm", "f w")]
    made = model(nodes, {"s": [batch, -1], "w": drawn(126, 2)}, shape=(batch, 3, 7, 6))
    assert_agree(made, tmp_path, batch=batch)


def test_reshape_as_pytorchs_exporter_writes_it(tmp_path):
    nodes = [node("Relu", "x", "r"), node("Reshape", "r s", "f", allowzero=1), node("Gemm", "f w")]
    assert_agree(model(nodes, {"s": [-1, 126], "w": drawn(126, 2)}), tmp_path)


def test_a_shape_that_is_computed(tmp_path):
    """As PyTorch writes ``x.view(x.size(0), -1)``."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s zero", "n", axis=0), node("Unsqueeze", "n first", "n1"),
        node("Concat", "n1 rest", "shape", axis=0), node("Reshape", "x shape", "f"), node("Gemm", "f w"),
    ]  # fmt: skip
    constants = {"zero": np.int64(0), "first": [0], "rest": [-1], "w": drawn(126, 2)}
    assert_agree(model(nodes, constants), tmp_path)


def test_squeeze_and_unsqueeze(tmp_path):
    nodes = [
        node("GlobalAveragePool", "x", "p"), node("Squeeze", "p axes", "f"), node("Sigmoid", "f", "s"),
        node("Unsqueeze", "s axes", "u"), node("Conv", "u w"),
    ]  # fmt: skip
    assert_agree(model(nodes, {"axes": [2, 3], "w": drawn(2, 3, 1, 1)}), tmp_path)
    nodes = [node("Squeeze", "x", "f", axes=[3, 2]), node("Relu", "f")]
    assert_agree(model(nodes, shape=("N", 3, 1, 1), opset=11), tmp_path)


@pytest.mark.parametrize("opset", [10, 13])
def test_dropout_and_identity_pass_x_through(opset, tmp_path):
    constants = {} if opset < 12 else {"r": np.float32(0.3)}
    dropout = node("Dropout", "x", "d", ratio=0.3) if opset < 12 else node("Dropout", "x r", "d")
    nodes = [dropout, node("Identity", "d", "i"), node("Cast", "i", "c", to=1), node("Relu", "c")]
    made = model(nodes, constants, opset=opset)
    assert_agree(made, tmp_path)
    assert repr(load(tmp_path / "made.onnx")[0]) == "Sequential(Dropout(0.3), ReLU())"


def test_a_pad_is_part_of_the_next_conv(tmp_path):
    pads = [0, 0, 1, 0, 0, 0, 2, 3]
    nodes = [node("Pad", "x pads", "p"), node("Conv", "p w", pads=[0, 1, 1, 0])]
    assert_agree(model(nodes, {"pads": pads, "w": W}), tmp_path)
    nodes = [node("Pad", "x", "p", pads=pads), node("Conv", "p w")]
    assert_agree(model(nodes, {"w": W}, opset=10), tmp_path)


PADS = {"pads": [0, 0, 1, 1, 0, 0, 0, 1], "low": np.float32(-np.inf), "lowest": np.finfo(np.float32).min}
PADDED = {
    "counted": [node("Pad", "x pads", "p"), node("AveragePool", "p", kernel_shape=[3, 2])],
    "counted with its own": [
        node("Pad", "x pads", "p"),
        node("AveragePool", "p", kernel_shape=[3, 3], pads=[0, 0, 1, 1], count_include_pad=1),
    ],
    "below all": [node("Pad", "x pads low", "p"), node("MaxPool", "p", kernel_shape=[3, 3], strides=[2, 2])],
    "twice": [
        node("Pad", "x pads lowest", "p"), node("Pad", "p pads low", "q"),
        node("MaxPool", "q", kernel_shape=[3, 3]),
    ],
    "after a Relu": [
        node("Relu", "x", "r"), node("Pad", "r pads", "p"), node("MaxPool", "p", kernel_shape=[3, 2])
    ],
}  # fmt: skip


@pytest.mark.parametrize("nodes", PADDED.values(), ids=PADDED)
def test_a_pad_is_part_of_the_next_pool(nodes, tmp_path):
    assert_agree(model(nodes, PADS), tmp_path)


def test_a_pad_of_some_axes(tmp_path):
    constants = {"pads": [2, 1, 0, 1], "axes": [3, -2], "w": W}
    nodes = [node("Pad", "x pads  axes", "p"), node("Conv", "p w")]
    assert_agree(model(nodes, constants, opset=18), tmp_path)


def test_weights_that_are_computed(tmp_path):
    """What nodes compute from constants is a constant."""
    nodes = [
        node("Constant", "", "two", value_float=2.0), node("Mul", "w two", "w2"),
        node("Transpose", "w2", "w3", perm=[1, 0, 2, 3]),
        node("ConstantOfShape", "n", "b"), node("Sub", "b one", "b2"), node("Conv", "x w3 b2"),
    ]  # fmt: skip
    constants = {"w": drawn(3, 4, 2, 2), "n": [4], "one": np.float32(1)}
    assert_agree(model(nodes, constants), tmp_path)


@pytest.mark.parametrize("opset", [13, 18])
def test_weights_that_are_standardised(opset, tmp_path):
    """As PyTorch writes normaliser-free nets."""
    inputs, settings = (" axes", {}) if opset == 18 else ("", {"axes": [0, 2]})
    nodes = [
        node("Reshape", "w flat", "v"), node("ReduceMean", f"v{inputs}", "m", keepdims=0, **settings),
        node("Mul", "v v", "v2"), node("ReduceMean", f"v2{inputs}", "s", keepdims=0, **settings),
        node("BatchNormalization", "v scale zero m s", "n", epsilon=0.01), node("Reshape", "n sizes", "u"),
        node("ReduceMean", "scale", "b1"), node("Mul", "b1 scale", "b"), node("Conv", "x u b"),
    ]  # fmt: skip
    constants = {"w": W, "flat": [1, 4, 18], "sizes": list(W.shape), "axes": [0, 2], "zero": drawn(4)}
    assert_agree(model(nodes, constants | {"scale": positive(4)}, opset=opset), tmp_path)


@pytest.mark.parametrize("opset", [7, 28])
def test_the_first_and_the_last_opset(opset, tmp_path):
    import onnx

    onnx.save(model([node("Relu", "x")], opset=opset), tmp_path / "a.onnx")
    assert repr(load(tmp_path / "a.onnx")[0]) == "Sequential(ReLU())"


REFUSED = {
    "an even LRN": ([node("LRN", "x", size=4)], {}, "one map more behind"),
    "training": ([node("BatchNormalization", "x c c c c", training_mode=1)], {"c": drawn(3)}, "training"),
    "a softmax across": ([node("Softmax", "x")], {}, "axis 3 is not over C"),
    "a constant image": ([node("Add", "x c")], {"c": drawn(3, 7, 6)}, "not one number for each channel"),
    "other channels": ([node("Add", "x c")], {"c": drawn(5, 1, 1)}, "not one number for each channel"),
    "a Gemm's A": ([node("Flatten", "x", "f"), node("Gemm", "w f")], {"w": drawn(2, 2)}, "only its input A"),
    "a matrix of maps": ([node("MatMul", "x w")], {"w": drawn(6, 2)}, "needs matrices"),
    "a reshape": ([node("Reshape", "x s")], {"s": [0, 7, 3, 6]}, "no layer that reshapes"),
    "nothing": ([node("Reshape", "x s", allowzero=1)], {"s": [0, -1]}, "makes empty tensors"),
    "another batch": ([node("Reshape", "x s")], {"s": [4, -1]}, "does not keep the samples"),
    "half a sample": ([node("Reshape", "x s")], {"s": [-1, 63]}, "does not keep the samples"),
    "the batch": ([node("Flatten", "x", axis=2)], {}, "joins samples"),
    "a product": ([node("Conv", "x w", "c"), node("Mul", "x c")], {"w": drawn(3, 3, 1, 1)}, "of two"),
    "a difference": ([node("Conv", "x w", "c"), node("Sub", "x c")], {"w": drawn(3, 3, 1, 1)}, "of two"),
    "a scaled product": ([node("Mul", "x a", "c"), node("Mul", "x c")], {"a": drawn(3, 1, 1)}, "of two"),
    "a Pad before a pool": ([node("Pad", "x p", "q"), node("MaxPool", "q", kernel_shape=[2, 2])],
                            {"p": [0, 0, 1, 1, 0, 0, 1, 1]}, "without ceil_mode"),
    "a Pad that hangs over": ([node("Relu", "x", "r"), node("Pad", "r p", "q"),
                               node("MaxPool", "q", kernel_shape=[2, 2], ceil_mode=1)],
                              {"p": [0, 0, 1, 1, 0, 0, 1, 1]}, "without ceil_mode"),
    "pads some of which count": ([node("Pad", "x p", "q"),
                                  node("AveragePool", "q", kernel_shape=[2, 2], pads=[1, 1, 1, 1])],
                                 {"p": [0, 0, 1, 1, 0, 0, 1, 1]}, "if all pads count"),
    "a Pad before Relu": ([node("Pad", "x p", "q"), node("Relu", "q")],
                          {"p": [0, 0, 1, 1, 0, 0, 1, 1]}, "only a Conv or a pool"),
    "a Pad of -inf": ([node("Pad", "x p v", "q"), node("Conv", "q w")],
                      {"p": [0, 0, 1, 1, 0, 0, 1, 1], "v": np.float32(-np.inf), "w": W}, "not of zeros"),
    "a Pad of maps": ([node("Pad", "x p  a", "q"), node("Conv", "q w")], {"p": [1, 1], "a": [1], "w": W},
                      "not around H and W"),
    "a Pad at the end": ([node("Pad", "x p")], {"p": [0, 0, 1, 1, 0, 0, 1, 1]}, "no Conv or pool follows"),
    "a Pad of ones": ([node("Pad", "x p v")],
                      {"p": [0, 0, 1, 1, 0, 0, 1, 1], "v": np.float32(1)}, "only pads of zeros"),
    "three axes": ([node("Conv", "x w")], {"w": drawn(2, 3, 2, 2, 2)}, "do not fit 3 channels"),
    "weights that do not fit": ([node("Conv", "x w")], {"w": drawn(2, 4, 2, 2)}, "do not fit 3 channels"),
    "too large a window": ([node("Conv", "x w")], {"w": drawn(2, 3, 9, 9)}, "does not fit"),
    "negative pads": ([node("Conv", "x w", pads=[-1, 0, 0, 0])], {"w": W}, "pad must be"),
    "pads of both kinds": ([node("Conv", "x w", pads=[1] * 4, auto_pad="VALID")], {"w": W}, "has pads and"),
    "pads of no kind": ([node("Conv", "x w", auto_pad="SAME")], {"w": W}, "auto_pad=SAME is not known"),
    "a Pad and auto_pad": ([node("Pad", "x p", "q"), node("Conv", "q w", auto_pad="SAME_UPPER")],
                           {"w": W, "p": [0, 0, 1, 1, 0, 0, 1, 1]}, "after a Pad"),
    "a stride of 0": ([node("Conv", "x w", strides=[0, 1], auto_pad="SAME_LOWER")], {"w": W}, "stride must"),
    "whole weights": ([node("Conv", "x w")], {"w": np.ones((2, 3, 2, 2), int)}, "not a float"),
    "an unknown attribute": ([node("Relu", "x", slope=1)], {}, "attribute slope is not known"),
    "a mask": ([node("Dropout", "x", "d mask"), node("Cast", "mask", to=1)], {}, "a second output"),
    "weights that vary": ([node("Relu", "x", "r"), node("Conv", "x r")], {}, "several activations"),
    "a dropout at work": ([node("Dropout", "x r t")],
                          {"r": np.float32(0.5), "t": np.bool_(True)}, "drops in evaluation"),
    "a power of x": ([node("Pow", "c x")], {"c": np.float32(2)}, "raised to a power"),
    "no power": ([node("Pow", "x c")], {"c": np.float32(np.inf)}, "power of inf"),
    "the largest of three": ([node("Max", "x c c")], {"c": np.float32(2)}, "of more than two"),
    "the larger map": ([node("Relu", "x", "r"), node("Max", "x r")], {}, "of several activations"),
    "division by 0": ([node("Div", "x c")], {"c": np.float32(0)}, "divides by 0"),
    "a joined axis": ([node("Relu", "x", "r"), node("Concat", "x r", axis=2)], {}, "axis=2"),
    "a joined constant": ([node("Concat", "x c", axis=1)], {"c": drawn(1, 3, 7, 6)}, "is a constant"),
    "a broadcast sum": ([node("GlobalAveragePool", "x", "g"), node("Add", "x g")], {}, "different shapes"),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "constants", "match"), REFUSED.values(), ids=REFUSED)
def test_what_no_layer_does_is_refused_with_the_nodes_name(nodes, constants, match, tmp_path):
    import onnx

    onnx.save(model(nodes, constants), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match=match) as raised:
        load(tmp_path / "a.onnx")
    assert any(f"{n.name} ({n.op_type})" in str(raised.value) for n in nodes) or "no Conv or pool" in match
