"""Files that are damaged, made to do harm, or not for minet: one message each, and little memory."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper
from onnx_models import by_minet, drawn, model, node

from minet import MinetError, Net
from minet.onnx import load, source


def small():
    return model([node("Conv", "x w b", "c"), node("Relu", "c")], {"w": drawn(2, 3, 3, 3), "b": drawn(2)})


def refused(made, folder, match):
    """Assert that a model, or a file with these bytes, is refused; return the message."""
    file = folder / "a.onnx"
    file.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    with pytest.raises(MinetError, match=match) as raised:
        load(file)
    assert str(raised.value).startswith(str(file))
    return str(raised.value)


def test_importing_minet_imports_no_onnx():
    code = (
        "import sys, minet.onnx; minet.onnx.load; print([n for n in ('onnx', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MinetError, match=r"pip install 'minet-layers\[onnx\]'"):
        load(tmp_path / "a.onnx")


def test_without_sympy_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    onnx.save(model([node("LeakyRelu", "x", alpha=0.123)]), tmp_path / "a.onnx")
    with pytest.raises(MinetError, match=r"n_y \(LeakyRelu\).*SymPy.*\n.*pip install sympy"):
        load(tmp_path / "a.onnx")


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(MinetError, match="no such file"):
        load(tmp_path / "a.onnx")
    with pytest.raises(MinetError, match="is a folder"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\xff" * 100, os.urandom(16) * 20, b"\x0a\x03abc"])
def test_a_file_that_is_no_model(data, tmp_path):
    refused(data, tmp_path, "is not an ONNX file")


def test_a_file_cut_short(tmp_path):
    data = small().SerializeToString()
    for size in range(0, len(data), 7):
        refused(data[:size], tmp_path, "a.onnx")


def test_a_file_larger_than_protobuf_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MOST", 100)
    refused(small(), tmp_path, "an ONNX file has at most 100")


def test_random_damage_is_refused_or_harmless(tmp_path):
    """Whatever bytes change, there is a net or a MinetError."""
    nodes = [
        node("Conv", "x w b", "c", pads=[1] * 4, group=1), node("MaxPool", "c", "m", kernel_shape=[2, 2]),
        node("Add", "m k", "a"), node("Concat", "a m", "j", axis=1), node("Reshape", "j s", "f"),
        node("Gemm", "f g", "h", transB=1), node("Softmax", "h"),
    ]  # fmt: skip
    constants = {"w": drawn(2, 3, 3, 3), "b": drawn(2), "k": drawn(2, 1, 1), "s": [0, -1], "g": drawn(3, 120)}
    data, draw, file = model(nodes, constants).SerializeToString(), random.Random(0), tmp_path / "a.onnx"
    loaded = 0
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            end = draw.choice([len(changed), 500])  # nodes come first, then weights
            changed[draw.randrange(end)] = draw.choice([draw.randrange(256), 0, 1, 127, 255])
        file.write_bytes(changed)
        try:
            graph, input_shape, weights = load(file)
            Net(graph, input_shape, 1).load(weights)
            loaded += 1
        except MinetError:
            pass
    assert 20 < loaded < 380


@pytest.mark.parametrize("opset", [1, 6, 29, 1000])
def test_other_opsets(opset, tmp_path):
    made = small()
    made.opset_import[0].version = opset
    assert "convert_version" in refused(made, tmp_path, f"has opset {opset}; minet reads 7 to 28")
    made.opset_import[0].domain = "ai.onnx.ml"
    refused(made, tmp_path, "names no opset")


def test_inputs_and_outputs(tmp_path):
    more = helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 2))
    made = small()
    made.graph.input.append(more)
    refused(made, tmp_path, "has 2 inputs, minet's nets have one: x, z")
    made = small()
    made.graph.output.append(more)
    refused(made, tmp_path, "has 2 outputs, minet's nets have one: y, z")
    made = small()
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    refused(made, tmp_path, "is not of float32")
    refused(model([node("Relu", "x")], shape=("N", 3, 5)), tmp_path, "has 3 axes")
    refused(model([node("Relu", "x")], shape=("N", 3, 5, -1)), tmp_path, r"open: \(3, 5, \?\)")
    made = small()
    made.graph.output[0].name = "nowhere"
    refused(made, tmp_path, "nowhere does not depend on its input")


def test_an_initialiser_that_is_also_an_input_is_a_constant(tmp_path):
    made = small()
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (2, 3, 3, 3)))
    onnx.save(made, tmp_path / "a.onnx")
    assert load(tmp_path / "a.onnx")[1] == (3, 7, 6)


def test_names_made_twice_or_never(tmp_path):
    refused(model([node("Relu", "x", "y"), node("Neg", "x", "y")]), tmp_path, "makes y twice")
    refused(model([node("Relu", "x", "x"), node("Relu", "x")]), tmp_path, "makes x twice")
    refused(model([node("Relu", "nothing")]), tmp_path, "nothing is made nowhere before it")
    refused(model([node("Relu", "a"), node("Relu", "x", "a")]), tmp_path, "a is made nowhere before it")
    refused(model([node("Relu", "y")]), tmp_path, "y is made nowhere before it")


# -- tensors --------------------------------------------------------------------------------------------


def with_tensor(change):
    """A model whose first weights were changed."""
    made = small()
    change(made.graph.initializer[0])
    return made


def test_tensors_that_claim_more_than_they_have(tmp_path):
    huge = [1 << 62, 1 << 62, 1 << 62]
    for dims in ([2, 3, 3, 4], [1 << 40, 3, 3, 3], huge):
        refused(
            with_tensor(lambda t, d=dims: (t.ClearField("dims"), t.dims.extend(d))),
            tmp_path,
            "needs .* and has 216",
        )
    refused(with_tensor(lambda t: t.dims.__setitem__(0, -2)), tmp_path, "below 0")
    refused(with_tensor(lambda t: t.ClearField("raw_data")), tmp_path, "needs 54 numbers and has 0")
    refused(
        with_tensor(lambda t: setattr(t, "data_type", TensorProto.STRING)), tmp_path, "has the type STRING"
    )
    refused(with_tensor(lambda t: setattr(t, "data_type", 99)), tmp_path, "has the type 99")
    refused(with_tensor(lambda t: setattr(t.segment, "begin", 1)), tmp_path, "in segments")


def test_sparse_tensors(tmp_path):
    made = small()
    made.graph.sparse_initializer.add()
    refused(made, tmp_path, "has sparse tensors")


@pytest.mark.parametrize("shape", [[1 << 40], [1 << 62, 1 << 62], [1 << 16, 1 << 16]])
def test_constants_out_of_nothing_are_bounded(shape, tmp_path):
    made = model([node("ConstantOfShape", "s", "c"), node("Add", "x c")], {"s": shape})
    refused(made, tmp_path, r"n_c \(ConstantOfShape\): makes constants of more than 2,147,483,648 bytes")


def test_constants_that_double_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MOST", 1 << 16)
    more = "makes constants of more than 65,536 bytes"
    nodes = [node("Concat", f"c{i} c{i}", f"c{i + 1}", axis=0) for i in range(60)]
    refused(model([*nodes, node("Add", "x c60")], {"c0": drawn(4)}), tmp_path, more)
    nodes = [node("Gather", f"c{i} k", f"c{i + 1}", axis=0) for i in range(9)]
    constants = {"c0": drawn(4, 1), "k": np.zeros((40, 40), int)}
    refused(model([*nodes, node("Add", "x c9")], constants), tmp_path, more)
    wide = model(
        [node("Mul", "a b", "c"), node("Add", "x c")], {"a": drawn(1 << 8, 1), "b": drawn(1, 1 << 8)}
    )
    refused(wide, tmp_path, more)


def test_a_shape_below_0(tmp_path):
    refused(
        model([node("ConstantOfShape", "s", "c"), node("Add", "x c")], {"s": [-3]}),
        tmp_path,
        r"of shape \(-3,\)",
    )


def test_names_without_end_are_cut_off(tmp_path):
    made = model([node("Nope", "x", "n" * 10**6), node("ReduceMean", "x", axes=list(range(10**5)))])
    made.graph.node.append(node("Concat", "y " + "n" * 10**6, "z", axis=1))
    made.graph.output[0].name = "z"
    assert len(refused(made, tmp_path, r"n\.\.\.\n")) < 5000


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Gather", "c k", "d", axis=0)], {"k": [9]}),
        ([node("Gather", "c k", "d", axis=5)], {"k": [0]}),
        ([node("Transpose", "c", "d", perm=[1, 2])], {}),
        ([node("Reshape", "c k", "d")], {"k": [5, 5]}),
        ([node("Unsqueeze", "c k", "d")], {"k": [9]}),
        ([node("Cast", "c", "d", to=8)], {}),
        ([node("Slice", "c k k k k", "d")], {"k": [0]}),
        ([node("Add", "c k", "d")], {"k": drawn(2, 2)}),
        ([node("BatchNormalization", "c k k k k", "d")], {"k": drawn(500)}),
        ([node("ReduceMean", "c", "d", axes=[2])], {}),
    ],
)
def test_constants_that_cannot_be_computed(nodes, constants, tmp_path):
    made = model([*nodes, node("Add", "x d")], {"c": drawn(3, 1), **constants})
    assert "n_d" in refused(made, tmp_path, "minet has no layers for these nodes")


# -- data in other files --------------------------------------------------------------------------------


def external(folder, location="data.bin", **facts):
    """A model whose first weights are in another file."""
    made = small()
    tensor = made.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **facts}.items():
        tensor.external_data.add(key=key, value=str(value))
    (folder / "data.bin").write_bytes(b"\0" * 8 + data)
    return made


def test_data_beside_the_file_are_read(tmp_path):
    onnx.save(small(), tmp_path / "a.onnx")
    x = drawn(2, 3, 7, 6)
    expected = by_minet(tmp_path / "a.onnx", x)
    (tmp_path / "b.onnx").write_bytes(external(tmp_path, offset=8, length=216).SerializeToString())
    np.testing.assert_array_equal(by_minet(tmp_path / "b.onnx", x), expected)
    (tmp_path / "below").mkdir()
    (tmp_path / "data.bin").rename(tmp_path / "below" / "data.bin")
    made = external(tmp_path, "./below/data.bin", offset=8)
    (tmp_path / "data.bin").unlink()
    (tmp_path / "b.onnx").write_bytes(made.SerializeToString())
    np.testing.assert_array_equal(by_minet(tmp_path / "b.onnx", x), expected)


def test_onnxs_own_external_data(tmp_path):
    onnx.save(small(), tmp_path / "b.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert load(tmp_path / "b.onnx")[2]["0/conv.w"].shape == (2, 3, 3, 3)


@pytest.mark.parametrize("location", ["../data.bin", "a/../../data.bin", "..", "/etc/passwd", ""])
def test_data_outside_the_folder_are_not(location, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    made = external(folder, location, offset=8)
    (tmp_path / "data.bin").write_bytes((folder / "data.bin").read_bytes())
    refused(made, folder, "outside the folder of the file")


def test_data_behind_links_are_not(tmp_path):
    folder, other = tmp_path / "in", tmp_path / "other"
    folder.mkdir(), other.mkdir()
    made = external(other, "data.bin", offset=8)
    (folder / "data.bin").symlink_to(other / "data.bin")
    refused(made, folder, "behind a link")
    (folder / "deep").symlink_to(other)
    refused(external(other, "deep/data.bin", offset=8), folder, "behind a link")


def test_data_that_are_not_there_or_too_short(tmp_path):
    refused(external(tmp_path, "no.bin"), tmp_path, "'no.bin': no such file")
    refused(external(tmp_path, "."), tmp_path, "no such file")
    refused(external(tmp_path, offset=9), tmp_path, "needs 216 bytes from byte 9")
    refused(external(tmp_path, offset=-8), tmp_path, "needs 216 bytes from byte -8")
    refused(external(tmp_path, offset=8, length=1 << 50), tmp_path, "and has 1,125,899,906,842,624")
    refused(external(tmp_path, offset="much"), tmp_path, "no whole numbers")
    made = external(tmp_path)
    made.graph.initializer[0].dims[0] = 1 << 50
    refused(made, tmp_path, "needs .* bytes from byte 0")


def test_what_broadcasts_otherwise_or_has_too_many_inputs_is_no_product(tmp_path):
    gate = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"), node("Sigmoid", "f", "s")]
    refused(model([*gate, node("Mul", "p s", "y")]), tmp_path, "of maps and matrices")
    third = node("Mul", "x s", "y")
    third.input.append("")
    refused(model([node("Sigmoid", "x", "s"), third]), tmp_path, "of maps and matrices, or of more than two")


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nerror: another line", "a\0b"])
def test_names_that_a_terminal_would_obey(name, tmp_path):
    made = model([node("Relu", "x", "y")])
    made.graph.node[0].name = name
    refused(made, tmp_path, "names that are not text")
    refused(external(tmp_path, name), tmp_path, "names that are not text")


def test_constants_that_many_nodes_share_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("minet.onnx.load_net.MOST", 1000)
    shape = np.array([3, 3, 3, 3])
    nodes = [node("ConstantOfShape", "shape", "w")]
    nodes += [node("Conv", f"{'x' if not i else f't{i}'} w", f"t{i + 1}", pads=[1] * 4) for i in range(4)]
    refused(model([*nodes, node("Relu", "t4", "y")], {"shape": shape}), tmp_path, "its nodes share constants")
