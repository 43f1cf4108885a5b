"""`minet export`: a run as an ONNX file that takes images as the data set has them."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from minet import data
from minet.cli.main import app
from minet.onnx.export_check import started
from minet.runs.trained import Trained
from minet.train import checkpoint

TOY = Path(__file__).parents[1] / "helpers/toy.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a model file and a run of it."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(TOY, folder / "toy.py")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert minet("train", "toy.py").exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def folder(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINET_DATA", "")


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def done(*args):
    result = minet("export", *args)
    assert result.exit_code == 0, result.output
    return result


def refused(*args):
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = minet("export", *args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("error:") == 1
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert {path for path in after if "__pycache__" not in path.parts} == {
        path for path in before if "__pycache__" not in path.parts
    }
    return result.stderr


def outputs(file, images):
    return started(onnx.load(file)).run(["y"], {"x": np.asarray(images, np.float32)})[0]


def test_a_run_takes_pixels_as_the_data_set_has_them():
    lines = done("toy.py", "--onnx", "toy.onnx").stdout.splitlines()
    assert lines[0] == (
        "wrote toy.onnx: opset 17, x (N, 1, 8, 8), images in the units of the data set; y (N, 10)"
    )
    start = "checked in onnxruntime on 16 images of digits test: the largest difference is "
    assert lines[1].startswith(start) and lines[1].endswith(" of the largest output")
    test = data.digits("test")
    expected = Trained.of("runs/toy").net(8).predict(test.normalize(test.images[:20]))
    assert outputs("toy.onnx", test.images[:20]) == pytest.approx(expected, abs=1e-4)
    facts = {p.key: p.value for p in onnx.load("toy.onnx").metadata_props}
    assert facts == {"model": "toy", "step": "6", "classes": json.dumps([str(i) for i in range(10)])}


def test_raw_leaves_the_normalisation_out():
    assert "images as the net takes them" in done("runs/toy", "--onnx", "toy.onnx", "--raw").stdout
    test = data.digits("test")
    x = test.normalize(test.images[:20])
    assert outputs("toy.onnx", x) == pytest.approx(Trained.of("toy").net(8).predict(x), abs=1e-4)
    assert onnx.load("toy.onnx").graph.node[0].op_type == "Flatten"


def test_a_checkpoint_of_an_earlier_version_falls_back_to_the_data_set():
    done("toy", "--onnx", "a.onnx")
    weights = Path("runs/toy/weights.safetensors")
    arrays, facts = checkpoint.read(weights)
    del facts["pixels"], facts["sha256" if "sha256" in facts else "minet"]
    checkpoint.write(weights, arrays, facts)
    result = done("toy", "--onnx", "b.onnx")
    assert "note: runs/toy/weights.safetensors does not hold mean and scale" in result.stderr
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()
    assert done("toy", "--onnx", "b.onnx", "--raw").stderr == ""


def test_a_model_without_a_run_needs_to_be_asked_for():
    assert "--untrained takes its first values" in refused("digits", "--onnx", "d.onnx")
    done("digits", "--untrained", "--set", "width=4", "--onnx", "d.onnx")
    assert outputs("d.onnx", data.digits("test").images[:3]).shape == (3, 10)


def test_without_images_it_is_checked_on_noise():
    Path("bare.py").write_text(
        TOY.read_text().replace("return data.digits", "1 / 0\n    return data.digits", 1)
    )
    result = done("bare.py", "--untrained", "--raw", "--onnx", "b.onnx")
    assert "note: checked on noise, as there are no images: bare.py:" in result.stderr
    assert "checked in onnxruntime on noise" in result.stdout
    assert "--raw leaves the normalisation out" in refused("bare.py", "--untrained", "--onnx", "c.onnx")


def test_what_cannot_be_meant_is_refused():
    assert "--onnx toy.onnx" in refused("toy", "--onnx", "toy")
    assert "its folder does not exist" in refused("toy", "--onnx", "none/toy.onnx")
    assert "no such run" in refused("none", "--onnx", "toy.onnx")
    assert "a run has its settings" in refused("toy", "--onnx", "toy.onnx", "--set", "width=3")
    assert "--model is for" in refused("toy", "--untrained", "--model", "toy.py", "--onnx", "toy.onnx")
    Path("toy.py").write_text(TOY.read_text().replace("rate=0.2", "rate=0.3"))
    assert "toy.py: has changed since" in refused("toy", "--onnx", "toy.onnx")
    done("toy", "--model", "toy.py", "--onnx", "toy.onnx")


def test_a_layer_without_a_form_leaves_an_existing_file_as_it_is():
    Path("own.py").write_text(
        TOY.read_text()
        .replace("PReLU(),", "Mine(),", 1)
        .replace(
            "\ninput_shape",
            "\nfrom minet import Layer\nclass Mine(Layer):\n    def out_shape(self, s): return s\n"
            "    def fprop_cpu(self, x, y, beta, train): y[...] = x\ninput_shape",
            1,
        )
    )
    Path("toy.onnx").write_text("before")
    assert "2:Mine (own.py:" in refused("own.py", "--untrained", "--onnx", "toy.onnx")
    assert Path("toy.onnx").read_text() == "before"
