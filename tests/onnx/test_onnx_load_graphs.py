"""How graphs are taken apart: sequences, branches, and what is not made of them; weights; folding."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx_models import Drawn, assert_agree, by_minet, drawn, model, node

from minet import Concat, MinetError, Net, Sequential, Sum
from minet.layers import Identity
from minet.onnx import load


def conv(inputs, output, maps=3, channels=3):
    """A node and its weights: 1x1, so that shapes stay."""
    return node("Conv", f"{inputs} w_{output}", output), {
        f"w_{output}": drawn(maps, channels, 1, 1, seed=maps)
    }


def graph_of(tmp_path, *nodes, **more):
    """The layers of a graph, given as nodes or as (node, weights), which agrees with onnxruntime."""
    made = [one if isinstance(one, tuple) else (one, {}) for one in nodes]
    constants = {name: array for _, arrays in made for name, array in arrays.items()}
    assert_agree(model([one for one, _ in made], constants, **more), tmp_path)
    return load(tmp_path / "made.onnx")[0]


def shown(layer):
    """A graph in brief: letters for layers, brackets for branches."""
    names = {"Conv": "c", "ReLU": "r", "Identity": "i", "Sequential": "", "Concat": "C", "Sum": "S"}
    name = names[type(layer).__name__]
    if isinstance(layer, Sequential):
        return "".join(shown(one) for one in layer.layers)
    return name + (f"({','.join(shown(one) for one in layer.layers)})" if layer.children else "")


def test_branches_are_in_the_order_of_the_joins_inputs(tmp_path):
    graph = graph_of(
        tmp_path,
        conv("x", "a", 2),
        conv("x", "b", 4),
        node("Relu", "b", "b2"),
        node("Concat", "b2 a x", axis=1),
    )
    assert shown(graph) == "C(cr,c,i)"
    assert [branch.configure((3, 7, 6))[0] for branch in graph.layers[0].layers] == [4, 2, 3]


def test_a_branch_is_a_single_layer_or_a_sequence(tmp_path):
    graph = graph_of(
        tmp_path, conv("x", "a"), node("Relu", "x", "b"), node("Relu", "a", "c"), node("Add", "b c")
    )
    assert [type(branch).__name__ for branch in graph.layers[0].layers] == ["ReLU", "Sequential"]


def test_a_residual_block_has_an_identity(tmp_path):
    graph = graph_of(
        tmp_path, node("Relu", "x", "r"), conv("r", "c"), node("Sum", "c r", "s"), node("Relu", "s")
    )
    assert shown(graph) == "rS(c,i)r" and isinstance(graph.layers[1].layers[1], Identity)


def test_a_sum_of_several_and_of_the_same_tensor_twice(tmp_path):
    assert (
        shown(graph_of(tmp_path, conv("x", "a"), node("Relu", "x", "b"), node("Sum", "a x b"))) == "S(c,i,r)"
    )
    assert shown(graph_of(tmp_path, node("Add", "x x"))) == "S(i,i)"
    assert shown(graph_of(tmp_path, node("Concat", "x x x", axis=1))) == "C(i,i,i)"


def test_a_join_of_one_passes_it_on(tmp_path):
    assert (
        shown(graph_of(tmp_path, node("Concat", "x", "c", axis=1), node("Sum", "c", "s"), node("Relu", "s")))
        == "r"
    )


def test_branches_within_branches(tmp_path):
    nodes = [
        conv("x", "a"), node("Relu", "a", "a1"), conv("a", "a2"), node("Add", "a1 a2", "a3"),
        node("Relu", "a3", "a4"),
        conv("x", "b"), node("Concat", "a4 b", axis=1),
    ]  # fmt: skip
    assert shown(graph_of(tmp_path, *nodes)) == "C(cS(r,c)r,c)"


def test_a_branch_that_splits_at_the_join_itself(tmp_path):
    """As in Inception v3: two of a Concat's inputs come from one layer. They are a Concat of their own."""
    nodes = [
        conv("x", "a"),
        conv("x", "b"),
        conv("b", "b1"),
        node("Relu", "b", "b2"),
        node("Concat", "a b1 b2 x", axis=1),
    ]
    assert shown(graph_of(tmp_path, *nodes)) == "C(c,cC(c,r),i)"


def test_dense_blocks_are_one_after_another(tmp_path):
    nodes, last, channels = [], "x", 3
    for i in range(3):
        nodes += [conv(last, f"c{i}", 2, channels), node("Concat", f"{last} c{i}", f"d{i}", axis=1)]
        last, channels = f"d{i}", channels + 2
    assert shown(graph_of(tmp_path, *nodes, node("Relu", last))) == "C(i,c)C(i,c)C(i,c)r"


def test_dense_blocks_whose_layers_join_all_before_them_anew(tmp_path):
    nodes, maps = [], ["x"]
    for i in range(3):
        nodes.append(node("Concat", " ".join(maps), f"d{i}", axis=1))
        nodes.append(conv(f"d{i}", f"c{i}", 2, 3 + 2 * i))
        maps.append(f"c{i}")
    nodes.append(node("Concat", " ".join(maps), axis=1))
    assert shown(graph_of(tmp_path, *nodes)) == "C(i,c)C(i,c)C(i,c)"


def test_a_concat_beside_one_of_the_same_tensor_twice(tmp_path):
    nodes = [
        node("Concat", "x x", "a", axis=1), node("Relu", "a", "b"), node("Relu", "x", "c"),
        node("Concat", "x x c", "d", axis=1), node("Concat", "b d", axis=1),
    ]  # fmt: skip
    assert shown(graph_of(tmp_path, *nodes)) == "C(C(i,i)r,C(i,i,r))"


def test_flat_activations_join(tmp_path):
    nodes = [
        conv("x", "a"),
        node("Flatten", "x", "f"),
        node("Flatten", "a", "g"),
        node("Concat", "f g", "h", axis=1),
    ]
    gemm = node("Gemm", "h w", transB=1), {"w": drawn(2, 252)}
    assert graph_of(tmp_path, *nodes, gemm).configure((3, 7, 6)) == (2, 1, 1)


def test_nodes_without_use_are_left_out(tmp_path):
    nodes = [node("Relu", "x", "r"), node("NonZero", "r", "unused"), node("Relu", "r")]
    assert shown(graph_of(tmp_path, *nodes)) == "rr"


def test_an_output_in_the_middle(tmp_path):
    made = model([node("Relu", "x", "r"), node("Sigmoid", "r", "s")], output="r")
    assert_agree(made, tmp_path)
    assert shown(load(tmp_path / "made.onnx")[0]) == "r"


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_are_what_they_were_made_of(seed, tmp_path):
    made = Drawn(seed)
    onnx.save(made.model(), tmp_path / "a.onnx")
    assert shown(load(tmp_path / "a.onnx")[0]) == made.text


CROSSED = {
    "a bridge": (
        [conv("x", "a"), conv("x", "b"), node("Add", "a b", "c"), conv("a", "d"), node("Add", "c d")], "n_c",
    ),
    "branches apart in a Concat": (
        [conv("x", "a"), conv("a", "b"), conv("x", "c"), node("Relu", "a", "d"),
         node("Concat", "b c d", axis=1)], "n_y",
    ),
    "a skip out of a branch": (
        [conv("x", "a"), node("Relu", "a", "b"), node("Add", "b x", "c"), node("Relu", "c", "d"),
         node("Add", "d a")], "n_",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "name"), CROSSED.values(), ids=CROSSED)
def test_a_graph_that_is_not_series_parallel_is_refused_with_a_node(nodes, name, tmp_path):
    made = [one if isinstance(one, tuple) else (one, {}) for one in nodes]
    constants = {key: array for _, arrays in made for key, array in arrays.items()}
    onnx.save(model([one for one, _ in made], constants), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match=rf"the branches of {name}\w* \((Add|Concat)\) do not all begin"):
        load(tmp_path / "a.onnx")


def test_all_nodes_without_a_layer_are_listed_at_once(tmp_path):
    nodes = [
        node("Relu", "x", "r"), node("InstanceNormalization", "r s s", "i"), node("Transpose", "i", "t"),
        node("Resize", "t", "u"), node("Transpose", "u", "v"), node("LRN", "x", "l", size=2),
        node("Add", "v l"),
    ]  # fmt: skip
    onnx.save(model(nodes, {"s": drawn(3)}), tmp_path / "a.onnx")
    with pytest.raises(MinetError) as raised:
        load(tmp_path / "a.onnx")
    text = str(raised.value)
    for expected in (
        "InstanceNormalization: n_i\n",
        "Resize: n_u\n",
        "Transpose: n_t, n_v\n",
        "n_l (LRN): size=2",
    ):
        assert expected in text
    assert "n_r" not in text and "n_y" not in text


def test_what_comes_after_a_node_without_a_layer_is_listed_too(tmp_path):
    nodes = [
        node("Split", "x", "a b", axis=1, num_outputs=2), node("Concat", "a b", "s", axis=1),
        node("GlobalAveragePool", "x", "g"), node("Mul", "x g", "m"), node("LRN", "m", "l", size=2),
        node("GlobalAveragePool", "m", "h"), node("Mul", "m h", "n"), node("Sum", "n l s"),
    ]  # fmt: skip
    onnx.save(model(nodes, opset=18), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match="hint: onnx") as raised:
        load(tmp_path / "a.onnx")
    lines = [line.split(":")[0].strip() for line in str(raised.value).splitlines()[1:-1]]
    assert lines == ["Split", "n_m (Mul)", "n_l (LRN)", "n_n (Mul)"]


def test_what_is_computed_from_a_shape_that_is_not_known_is_not_listed(tmp_path):
    nodes = [
        node("Resize", "x", "r"),
        node("Shape", "r", "s"),
        node("Gather", "s k", "g"),
        node("Reshape", "r g"),
    ]
    onnx.save(model(nodes, {"k": [0, 1]}), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match=r"nodes\n    Resize: n_r\n  hint"):
        load(tmp_path / "a.onnx")


def test_many_are_counted(tmp_path):
    nodes = [node("Transpose", "x" if i == 0 else f"t{i - 1}", f"t{i}") for i in range(40)]
    onnx.save(model([*nodes, node("Relu", "t39")]), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match="n_t11, and 28 more"):
        load(tmp_path / "a.onnx")


def test_operators_of_other_domains_are_not_onnxs(tmp_path):
    other = onnx.helper.make_node("Relu", ["x"], ["y"], name="n", domain="com.microsoft")
    onnx.save(model([other]), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match=r"com\.microsoft\.Relu: n"):
        load(tmp_path / "a.onnx")


def test_a_long_sequence_and_many_branches_take_little_time(tmp_path):
    nodes = [node("Relu", "x" if i == 0 else f"r{i - 1}", f"r{i}") for i in range(3000)]
    nodes += [node("Neg", "r2999", f"b{i}") for i in range(500)]
    nodes.append(node("Concat", " ".join(f"b{i}" for i in range(500)), axis=1))
    onnx.save(model(nodes), tmp_path / "a.onnx")
    graph, *_ = load(tmp_path / "a.onnx")
    assert len(graph.layers) == 3001 and len(graph.layers[-1].layers) == 500


@pytest.mark.parametrize("depth", [60, 3000])
def test_branches_too_deep_within_one_another_are_refused(depth, tmp_path):
    nodes, last = [], "x"
    for i in range(depth):
        nodes += [node("Relu", last, f"r{i}")]
        last = f"r{i}"
    for i in reversed(range(depth)):
        nodes += [node("Neg", last, f"n{i}"), node("Add", f"n{i} r{i}", f"s{i}")]
        last = f"s{i}"
    onnx.save(model(nodes, output="s0"), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match="more than 40 deep"):
        load(tmp_path / "a.onnx")


# -- weights --------------------------------------------------------------------------------------------


def test_weights_have_minets_names_and_fit_the_net(tmp_path):
    nodes = [node("Conv", "x w b", "c"), node("BatchNormalization", "c s t m v", "n"), node("PRelu", "n a")]
    per_map = {name: np.abs(drawn(4, seed=i)) for i, name in enumerate("bstmv")}
    constants = {"w": drawn(4, 3, 3, 3), "a": drawn(4, 1, 1), **per_map}
    assert_agree(model(nodes, constants), tmp_path)
    graph, input_shape, weights = load(tmp_path / "made.onnx")
    net = Net(graph, input_shape, 2)
    assert input_shape == (3, 7, 6)
    assert set(weights) == {*net.params, *net.persistent}
    assert net.load(weights) == []
    np.testing.assert_array_equal(net.params["0/conv.w"], constants["w"])
    np.testing.assert_array_equal(net.persistent["1/batch_norm.running_var"], constants["v"])
    np.testing.assert_array_equal(net.params["2/prelu.a"], constants["a"].ravel())


def test_errors_of_the_net_name_the_file_and_the_node(tmp_path):
    onnx.save(model([node("Relu", "x", "r"), node("MaxPool", "r", kernel_shape=[3, 3])]), tmp_path / "a.onnx")
    graph, *_ = load(tmp_path / "a.onnx")
    with pytest.raises(MinetError, match=r"1:MaxPool \(.*a\.onnx:2\)"):
        Net(graph, (3, 2, 2), 1)


@pytest.mark.parametrize("bias", [True, False])
def test_folding_only_where_asked(bias, tmp_path):
    nodes = [
        node("Conv", "x w c" if bias else "x w", "k"), node("BatchNormalization", "k s t m v", "n"),
        node("Mul", "n a", "o"), node("Add", "o b", "p"), node("Relu", "p", "q"),
        node("BatchNormalization", "q s t m v"),
    ]  # fmt: skip
    constants = {name: np.abs(drawn(4, seed=i)) for i, name in enumerate("cstmv")}
    constants |= {"w": drawn(4, 3, 3, 3), "a": drawn(4, 1, 1), "b": drawn(4, 1, 1, seed=1)}
    made = model(nodes, constants)
    assert_agree(made, tmp_path)
    assert_agree(made, tmp_path, fold=True)
    kinds = [
        [type(layer).__name__ for layer in load(tmp_path / "made.onnx", fold=fold)[0].layers]
        for fold in (0, 1)
    ]
    assert kinds == [["Conv", "BatchNorm", "Elementwise", "ReLU", "BatchNorm"], ["Conv", "ReLU", "BatchNorm"]]


def test_folding_into_linear_and_inside_branches(tmp_path):
    nodes = [
        node("Conv", "x w", "a"), node("BatchNormalization", "a s s s s", "b"), node("Add", "b x", "c"),
        node("Flatten", "c", "f"), node("Gemm", "f g", "h"), node("BatchNormalization", "h s s s s"),
    ]  # fmt: skip
    made = model(nodes, {"w": drawn(3, 3, 1, 1), "s": np.abs(drawn(3)), "g": drawn(126, 3)})
    assert_agree(made, tmp_path, fold=True)
    graph, *_ = load(tmp_path / "made.onnx", fold=True)
    assert "BatchNorm" not in repr(graph)
    assert isinstance(graph.layers[0], Sum) and not isinstance(graph.layers[0], Concat)


def test_an_input_of_open_size(tmp_path):
    onnx.save(model([node("Relu", "x")], shape=("N", 3, "H", "W")), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match=r"open: \(3, \?, \?\)\n.*input_shape=\(3, 224, 224\)"):
        load(tmp_path / "a.onnx")
    assert load(tmp_path / "a.onnx", (3, 4, 5))[1] == (3, 4, 5)
    x = drawn(2, 3, 4, 5)
    np.testing.assert_array_equal(by_minet(tmp_path / "a.onnx", x, input_shape=(3, 4, 5)), np.maximum(x, 0))
    for bad in ((1, 4, 5), (3, 0, 5), (3, 4), "3x4x5"):
        with pytest.raises(MinetError, match="input_shape must be"):
            load(tmp_path / "a.onnx", bad)
