"""`minet predict`: what a run says of image files; what cannot be read is named before any is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from minet import data
from minet.cli.main import app
from minet.runs.trained import Trained
from minet.train import checkpoint

HELPERS = Path(__file__).parents[1] / "helpers"
MAPS = """from minet import SGD, MeanSquaredError, data
from minet.layers import Conv
input_shape, batch, epochs, loss = (1, 8, 8), 8, 1, MeanSquaredError()
def net(): return [Conv(1, 1)]
def solver(): return SGD(0.01)
def datasets():
    images = data.digits("train", limit=16).images
    return data.Dataset(images, images / 16)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with model files, runs of them, and images."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("toy.py", "regression.py"):
        shutil.copy(HELPERS / name, folder / name)
    test = data.digits("test")
    (folder / "images/more").mkdir(parents=True)
    for i in range(4):
        place = folder / "images" / ("more" if i == 3 else ".")
        Image.fromarray(np.round(test.images[i, 0] * (255 / 16)).astype(np.uint8)).save(
            place / f"{3 - i}.png"
        )
    np.save(folder / "images/z.npy", test.images[:40])
    (folder / "images/notes.txt").write_text("no image")
    (folder / "images/.hidden.png").write_text("no image")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for name in ("toy.py", "regression.py"):
            assert minet("train", name, "--epochs", 4).exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def folder(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINET_DATA", "")


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def done(*args):
    result = minet("predict", *args)
    assert result.exit_code == 0, result.output
    return result


def records(*args):
    return [json.loads(line) for line in done(*args, "--json").stdout.splitlines()]


def refused(*args):
    result = minet("predict", *args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("error:") == 1
    return result.stderr


def test_files_and_folders_in_order_with_what_the_net_says():
    found = records("toy", "images/2.png", "images", "--top", 10)
    names = [one["file"] for one in found]
    assert names[:6] == [
        "images/2.png", "images/1.png", "images/2.png", "images/3.png", "images/more/0.png",
        "images/z.npy[0]",
    ]  # fmt: skip
    assert len(names) == 45 and found[0] == found[2]
    test = data.digits("test")
    y = Trained.of("toy").net(8).predict(test.normalize(test.images[:40])).astype(np.float64)
    shares = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    for one, share in zip(found[5:], shares, strict=True):
        assert one["label"] == share.argmax() and one["class"] == str(one["label"])
        assert one["probability"] == pytest.approx(share.max(), rel=1e-5)
        assert [other["label"] for other in one["top"]] == np.argsort(-share).tolist()
        assert sum(other["probability"] for other in one["top"]) == pytest.approx(1)
    for i, name in enumerate(["3.png", "2.png", "1.png", "more/0.png"]):  # the same digits, rounded to bytes
        one = next(one for one in found if one["file"] == f"images/{name}")
        assert one["probability"] == pytest.approx(found[5 + i]["probability"], abs=0.02)


def test_a_table():
    lines = done("runs/toy", "images/more", "images/1.png").stdout.splitlines()
    assert lines[0].split() == ["file", "class", "probability", "next", "best"]
    assert lines[1].startswith("images/more/0.png  ") and lines[1].count(" %") == 2
    assert "next best" not in done("toy", "images/1.png", "--top", 1).stdout
    name = "[bold]" + "x" * 150 + ".png"
    shutil.copy("images/1.png", name)
    assert name in done("toy", name).stdout
    shutil.copy("images/1.png", "clear\x1b[2J.png")  # what a terminal would obey
    assert "clear?[2J.png" in done("toy", "clear\x1b[2J.png").stdout


def test_outputs_of_a_regression_and_probabilities_of_yes_or_no():
    (one,) = records("regression", "images/1.png")
    assert one.keys() == {"file", "outputs"} and len(one["outputs"]) == 2
    assert "outputs" in done("regression", "images/1.png").stdout
    text = Path("regression.py").read_text()
    Path("regression.py").write_text(text.replace("MeanSquaredError", "BinaryCrossEntropy"))
    (binary,) = records("regression", "images/1.png", "--model", "regression.py")
    expected = 1 / (1 + np.exp(-np.array(one["outputs"])))
    assert binary["probabilities"] == pytest.approx(expected.tolist())
    assert " %, " in done("regression", "images/1.png", "--model", "regression.py").stdout


def test_a_checkpoint_of_an_earlier_version_falls_back_to_the_data_set():
    before = records("toy", "images/z.npy")
    weights = Path("runs/toy/weights.safetensors")
    arrays, facts = checkpoint.read(weights)
    del facts["pixels"]
    checkpoint.write(weights, arrays, facts)
    result = done("toy", "images/z.npy", "--json")
    assert "note: runs/toy/weights.safetensors does not hold mean and scale" in result.stderr
    assert [json.loads(line) for line in result.stdout.splitlines()] == before


def test_weights_elsewhere_and_a_net_with_a_softmax_of_its_own():
    """As `minet import` leaves them."""
    before = records("toy", "images/1.png")
    shutil.copy("runs/toy/weights.safetensors", "w.safetensors")
    assert records("w.safetensors", "images/1.png") == before
    text = Path("toy.py").read_text().replace("Linear(10))", "Linear(10), Softmax())")
    Path("soft.py").write_text(text.replace("Linear, PReLU", "Linear, PReLU, Softmax"))
    (found,) = records("w.safetensors", "images/1.png", "--model", "soft.py")
    assert found["probability"] == pytest.approx(before[0]["probability"], rel=1e-5)
    Trained.of("toy").net(1).save("w.safetensors")
    assert "w.safetensors: does not say of which model file" in refused("w.safetensors", "images")
    assert records("w.safetensors", "images/1.png", "--model", "toy.py") == before


def test_class_names_come_from_the_checkpoint():
    weights = Path("runs/toy/weights.safetensors")
    arrays, facts = checkpoint.read(weights)
    facts["pixels"]["names"] = [f"class {i}" for i in range(10)]
    checkpoint.write(weights, arrays, facts)
    (one,) = records("toy", "images/1.png")
    assert one["class"] == f"class {one['label']}"


@pytest.mark.parametrize(
    "pixels",
    [
        {},
        {"mean": [1.0], "std": [0.0]},
        {"mean": [1.0, 2.0], "std": [1.0, 1.0]},
        {"mean": ["a"], "std": [1.0]},
    ],
)
def test_facts_that_minet_never_writes_are_refused(pixels):
    weights = Path("runs/toy/weights.safetensors")
    arrays, facts = checkpoint.read(weights)
    checkpoint.write(weights, arrays, facts | {"pixels": pixels})
    assert "its pixels are" in refused("toy", "images/1.png")


def test_all_files_that_do_not_fit_are_named_first():
    Image.new("L", (9, 8)).save("wide.png")
    Path("broken.png").write_bytes(Path("images/1.png").read_bytes()[:60])
    message = refused("toy", "images", "wide.png", "broken.png", "none.png")
    assert "wide.png: is 9x8 pixels, the net takes 8x8" in message
    assert "broken.png: cannot be read" in message and "none.png: no such file" in message
    assert "--resize" in refused("toy", "wide.png")
    assert len(records("toy", "wide.png", "--resize")) == 1


def test_what_cannot_be_meant_is_refused():
    assert "no such run" in refused("none", "images")
    assert "hint: minet import net.onnx" in refused("net.onnx", "images")
    assert "--top must be at least 1" in refused("toy", "images", "--top", 0)
    Path("empty").mkdir()
    assert "empty: no images in this folder" in refused("toy", "empty")
    weights = Path("runs/toy/weights.safetensors")
    arrays, facts = checkpoint.read(weights)
    arrays["4/linear.b"][0] = np.nan
    checkpoint.write(weights, arrays, facts)
    assert "images/1.png: the net's outputs are not finite" in refused("toy", "images/1.png")


def test_a_net_whose_outputs_are_maps_is_refused():
    Path("maps.py").write_text(MAPS)
    assert minet("train", "maps.py").exit_code == 0
    assert "outputs are maps, (K, P, Q) = (1, 8, 8)" in refused("maps", "images/1.png")
