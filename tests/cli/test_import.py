"""`minet import`: the files that it writes, that they run, and that nothing is half-written."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx_models import by_onnxruntime, drawn, model, node
from typer.testing import CliRunner

import minet
from minet.cli.main import app
from minet.core import arrays_file, files


def minet_command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(shape=("N", 3, 8, 8)):
    """Two blocks of two branches, batch normalisation, a classifier of four, and a softmax."""
    nodes, last, constants = [], "x", {name: np.abs(drawn(6)) for name in "stmv"}
    for i, channels in ((0, 3), (1, 6)):
        constants |= {f"w{i}": drawn(4, channels, 3, 3), f"u{i}": drawn(2, channels, 1, 1)}
        nodes += [
            node("Conv", f"{last} w{i}", f"a{i}", pads=[1] * 4), node("Relu", f"a{i}", f"b{i}"),
            node("Conv", f"{last} u{i}", f"c{i}"), node("Relu", f"c{i}", f"d{i}"),
            node("Concat", f"b{i} d{i}", f"e{i}", axis=1),
            node("BatchNormalization", f"e{i} s t m v", f"f{i}"),
        ]  # fmt: skip
        last = f"f{i}"
    nodes += [node("GlobalAveragePool", last, "p"), node("Flatten", "p", "q"), node("Gemm", "q g", "h")]
    return model([*nodes, node("Softmax", "h")], {**constants, "g": drawn(6, 4)}, shape)


def test_the_files_are_a_network(folder):
    made = small()
    onnx.save(made, folder / "my net-2.onnx")
    done = minet_command("import", "my net-2.onnx")
    assert done.exit_code == 0, done.output
    assert "input (3, 8, 8), output (4, 1, 1)" in done.output and "wrote my_net_2.py" in done.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "my net-2.onnx",
        "my_net_2.py",
        "my_net_2.safetensors",
    ]
    assert "``minet train`` begins with new ones.\n" in (folder / "my_net_2.py").read_text()
    loaded = minet.load_model("my_net_2.py")
    net = minet.Net(loaded.net(), loaded.input_shape, 2, loaded.loss)
    assert net.load("my_net_2.safetensors") == []
    x = drawn(2, 3, 8, 8)
    np.testing.assert_allclose(net.predict(x), by_onnxruntime(made, x), rtol=1e-4, atol=1e-6)
    done = minet_command("summary", "my_net_2.py")
    assert done.exit_code == 0 and "Softmax()" in done.output
    net.train_step(x.transpose(1, 2, 3, 0).copy(), np.array([0, 3]), loaded.solver())


def test_eval_and_predict_work_once_there_are_data(folder):
    made = small()
    onnx.save(made, folder / "a.onnx")
    assert minet_command("import", "a.onnx", "--out", "sub.py").exit_code == 0
    np.save("x.npy", drawn(3, 8, 8))
    commands = [
        ["eval", "sub.py", "--weights", "sub.safetensors", "softmax=False"],
        ["predict", "sub.safetensors", "x.npy", "--model", "sub.py", "--json"],
    ]
    for command in commands:
        done = minet_command(*command, "--backend", "cpu")
        assert done.exit_code == 2 and "an ONNX file has no images" in done.output
        assert "return two minet.data.Dataset" in done.output
    text = (folder / "sub.py").read_text()
    images = "np.linspace(0, 1, 768, dtype=np.float32).reshape(4, 3, 8, 8)"
    data = f"data = Dataset({images}, [0, 1, 2, 3])\n    return data, data\n"
    text = text.replace(text[text.index("raise MinetError(") :], data)
    start = "import numpy as np\nfrom minet.data.dataset import Dataset\n"
    (folder / "sub.py").write_text(start + text)
    done, said = (minet_command(*command, "--backend", "cpu") for command in commands)
    assert done.exit_code == 0 and " %, loss " in done.output, done.output
    expected = by_onnxruntime(made, drawn(1, 3, 8, 8))[0]
    found = json.loads(said.stdout)
    assert said.exit_code == 0 and found["label"] == expected.argmax()
    assert found["probability"] == pytest.approx(expected.max(), rel=1e-4)  # no softmax of a softmax


def test_folded(folder):
    made = small()
    onnx.save(made, folder / "a.onnx")
    assert minet_command("import", "a.onnx", "--out", "plain.py").exit_code == 0
    assert "BatchNorm()" in (folder / "plain.py").read_text()
    conv = model(
        [node("Conv", "x w", "c"), node("BatchNormalization", "c s s s s")],
        {"w": drawn(2, 3, 1, 1), "s": np.ones(2, np.float32)},
    )
    onnx.save(conv, folder / "b.onnx")
    assert minet_command("import", "b.onnx", "--fold").exit_code == 0
    text = (folder / "b.py").read_text()
    assert "BatchNorm" not in text and "Conv(2, 1)" in text


def test_an_input_of_open_size(folder):
    onnx.save(small(("N", 3, "H", "W")), folder / "a.onnx")
    done = minet_command("import", "a.onnx")
    assert done.exit_code == 2 and "--input 3x224x224" in done.output
    for bad in ("3x8", "3x8x8x8", "ax8x8", "3x-8x8", "0x8x8"):
        done = minet_command("import", "a.onnx", "--input", bad)
        assert done.exit_code == 2 and "error: " in done.output
    assert minet_command("import", "a.onnx", "--input", "3x8x8").exit_code == 0
    assert "input_shape = (3, 8, 8)" in (folder / "a.py").read_text()


def test_what_is_refused_writes_nothing(folder):
    onnx.save(model([node("Transpose", "x")]), folder / "a.onnx")
    (folder / "b.onnx").write_bytes(b"nothing")
    (folder / "d.py").touch()
    for file, found in (
        ("a.onnx", "Transpose: n_y"),
        ("b.onnx", "is not an ONNX file"),
        ("c.onnx", "no such file"),
        ("d.py", "is a Python file, not an ONNX file"),
    ):
        done = minet_command("import", file)
        assert done.exit_code == 2 and found in done.output and done.output.startswith(f"error: {file}")
    assert sorted(path.name for path in folder.iterdir()) == ["a.onnx", "b.onnx", "d.py"]


@pytest.mark.parametrize("there", ["a.py", "a.safetensors"])
def test_nothing_is_overwritten(there, folder):
    onnx.save(small(), folder / "a.onnx")
    (folder / there).write_text("mine")
    done = minet_command("import", "a.onnx")
    assert done.exit_code == 2 and f"{there} exists" in done.output
    assert (folder / there).read_text() == "mine" and len(list(folder.iterdir())) == 2


def test_files_that_cannot_be_written(folder, monkeypatch):
    onnx.save(small(), folder / "a.onnx")
    done = minet_command("import", "a.onnx", "--out", "no/folder.py")
    assert done.exit_code == 2 and "no/folder.py: its folder does not exist" in done.output
    done = minet_command("import", "a.onnx", "--out", "model.txt")
    assert done.exit_code == 2 and "--out model.py" in done.output

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    done = minet_command("import", "a.onnx")
    assert done.exit_code == 2 and "No space left" in done.output
    assert [path.name for path in folder.iterdir()] == ["a.onnx"]


def test_a_model_file_that_appears_meanwhile_stays(folder, monkeypatch):
    onnx.save(small(), folder / "a.onnx")

    def write(path, *rest, write=arrays_file.write):
        write(path, *rest)
        (folder / "a.py").write_text("mine")

    monkeypatch.setattr(arrays_file, "write", write)
    done = minet_command("import", "a.onnx")
    assert done.exit_code == 2 and "a.py: cannot be written: File exists" in done.output
    assert sorted(path.name for path in folder.iterdir()) == ["a.onnx", "a.py"]
    assert (folder / "a.py").read_text() == "mine"


def test_names_that_would_be_code_are_not(folder):
    name = 'a""" + print(1) + """\\.onnx'
    onnx.save(small(), folder / name)
    assert minet_command("import", name, "--out", "b.py").exit_code == 0
    assert minet.load_model("b.py").input_shape == (3, 8, 8)
    assert "print(1) + " not in (folder / "b.py").read_text()


def test_without_the_package(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = minet_command("import", "a.onnx")
    assert done.exit_code == 2 and "pip install 'minet-layers[onnx]'" in done.output


def test_a_name_that_would_hide_a_module(folder):
    onnx.save(small(), "numpy.onnx")
    done = minet_command("import", "numpy.onnx")
    assert done.exit_code == 2 and "numpy.py would hide the module numpy" in done.output
    assert sorted(path.name for path in folder.iterdir()) == ["numpy.onnx"]
