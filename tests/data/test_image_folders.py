"""Folders of images: layouts of torchvision and Keras, sizes, damaged files, and training from one."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from minet import data
from minet.cli.main import app
from minet.data import Crop, DataError, Flip, folders

RNG = np.random.default_rng(7)


def picture(path: Path, size=(4, 6), mode="RGB") -> np.ndarray:
    """Write a PNG, and return its pixels (C, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (*size, *((3,) if mode == "RGB" else ())), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels.transpose(2, 0, 1) if mode == "RGB" else pixels[None]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of two classes, and its pixels by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINET_DATA", raising=False)
    names = ("dog/2.png", "cat/b.png", "cat/a.png", "dog/more/1.PNG")
    pixels = {name: picture(tmp_path / "photos" / name) for name in names}
    (tmp_path / "photos/readme.txt").write_text("no image")
    (tmp_path / "photos/.git").mkdir()
    (tmp_path / "photos/__MACOSX").mkdir()
    (tmp_path / "photos/cat/.hidden.png").write_text("no image")
    (tmp_path / "photos/cat/.thumbnails").mkdir()
    (tmp_path / "photos/cat/.thumbnails/a.png").write_text("no image")
    np.save(tmp_path / "photos/cat/a.npy", np.zeros(3))
    return pixels


ORDER = ("cat/a.png", "cat/b.png", "dog/2.png", "dog/more/1.PNG")


def test_a_subfolder_is_a_class(photos):
    found = data.folder("photos", flip=True, crop=1)
    assert (found.names, found.labels.tolist(), found.name) == (("cat", "dog"), [0, 0, 1, 1], "photos")
    np.testing.assert_array_equal(found.images, [photos[name] for name in ORDER])
    assert found.images.dtype == np.uint8 and found.white == 255 and (found.flip, found.crop) == (True, 1)
    assert found.mean.tolist() == [127.5] * 3 and found.std.tolist() == [63.75] * 3


def test_grey_and_classes_in_an_order_of_ones_own(photos):
    grey = data.folder(Path("photos"), channels=1, classes=("dog", "cat"), mean="measured", augment=[Flip()])
    assert (grey.names, grey.labels.tolist(), grey.image_shape) == (("dog", "cat"), [0, 0, 1, 1], (1, 4, 6))
    exact = [photos[name].transpose(1, 2, 0) @ [0.299, 0.587, 0.114] for name in (*ORDER[2:], *ORDER[:2])]
    assert abs(grey.images[:, 0] - np.array(exact)).max() <= 1
    assert grey.mean == pytest.approx(grey.images.mean(), rel=1e-6)
    assert data.folder("photos", classes=["dog"]).labels.tolist() == [0, 0]


def test_files_are_scaled_on_request(photos):
    picture(Path("photos/dog/3.png"), (30, 20))
    with pytest.raises(DataError) as caught:
        data.folder("photos")
    assert str(caught.value) == (
        "photos/dog/3.png: is 20x30 pixels, the first one is 6x4\n"
        "  hint: size=64 scales images to cover 64x64, and cuts off what hangs over"
    )
    assert data.folder("photos", size=5).images.shape == (5, 3, 5, 5)
    assert data.folder("photos", size=(8, 3), augment=[Crop((7, 2))]).image_shape == (3, 7, 2)
    same = data.folder("photos", size=(4, 6), classes=["cat"])
    np.testing.assert_array_equal(same.images, [photos[name] for name in ORDER[:2]])


@pytest.mark.parametrize(
    ("names", "asked", "taken"),
    [
        (("train", "val"), ("train", "val", "test"), ("train", "val", "val")),
        (("train", "test"), ("train", "test"), ("train", "test")),
        (("train", "val", "test"), ("val", "test"), ("val", "test")),
        (("train", "valid", "testing"), ("val", "test"), ("valid", "testing")),
        (("training", "validation"), ("train", "test"), ("training", "validation")),
        (("train",), ("train",), ("train",)),
    ],
)
def test_splits_are_found(tmp_path, monkeypatch, names, asked, taken):
    monkeypatch.chdir(tmp_path)
    pixels = {
        name: [picture(tmp_path / "set" / name / one / "1.png") for one in ("ant", "bee")] for name in names
    }
    for split, name in zip(asked, taken, strict=True):
        found = data.folder("set", split)
        assert (found.names, found.name) == (("ant", "bee"), f"set {split}")
        np.testing.assert_array_equal(found.images, pixels[name])
    with pytest.raises(
        DataError, match=r"set: holds .*, and none was named\n  hint: data.folder\('set', \"train"
    ):
        data.folder("set")


def test_a_test_has_the_classes_of_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train/ant", "train/bee", "train/cow", "test/cow", "test/ant"):
        picture(tmp_path / "set" / name / "1.png")
    found = data.folder("set", "test")
    assert found.names == ("ant", "bee", "cow") and found.labels.tolist() == [0, 2]
    assert data.folder("set", "test", classes=["cow", "ant"]).labels.tolist() == [0, 1]
    picture(tmp_path / "set/test/dog/1.png")
    with pytest.raises(
        DataError, match=r"set/test: has a class 'dog', which set/train does not have\n.*ant, bee, cow"
    ):
        data.folder("set", "test")
    (tmp_path / "set/test/bee").mkdir()
    (tmp_path / "set/test/dog/1.png").unlink()
    (tmp_path / "set/test/dog").rmdir()
    with pytest.raises(DataError, match="set/test/bee: no images in this folder"):
        data.folder("set", "test")


def test_a_split_that_is_named_may_have_other_folders_beside_it(tmp_path):
    for name in ("train/ant", "test/ant", "annotations/all"):
        picture(tmp_path / name / "1.png")
    assert data.folder(tmp_path, "test").names == ("ant",)
    assert data.folder(tmp_path).names == ("annotations", "test", "train")


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus"):
        picture(tmp_path / name / "1.png")
    assert data.folder(tmp_path).names == ("bus", "train")


def test_a_name_counts_from_the_data_folder_too(photos, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("MINET_DATA", str(tmp_path))
    assert len(data.folder("photos")) == 4
    with pytest.raises(
        DataError, match=f"none: no such file or folder, nor in {tmp_path}\n  hint: .*--data-dir"
    ):
        data.folder("none")
    with pytest.raises(DataError, match="x: no such file or folder"):
        data.folder("x" * 5000)
    with pytest.raises(DataError, match="None is not the name of a file"):
        data.folder(None)


@pytest.mark.parametrize(
    ("path", "settings", "expected"),
    [
        ("photos", {"split": "train"}, r"no split 'train': it holds no folders .*\n.*split\(0.9\)"),
        ("photos", {"split": "dev"}, "there is no split 'dev'\n  hint: the splits are"),
        ("photos", {"classes": ["cat", "cow"]}, "has no class 'cow'\n  hint: its subfolders are cat, dog"),
        ("photos", {"classes": "cat"}, "classes must be a number or names, got 'cat'"),
        ("photos", {"channels": 2}, "channels must be 1, 3 or 4, got 2"),
        ("photos", {"size": 0}, "size must be a whole number above 0"),
        ("photos", {"size": (3, 4, 5)}, "size must be"), ("photos", {"size": "64"}, "size must be"),
        ("photos", {"size": 10**9}, "4 images of 1000000000x1000000000 pixels do not fit into memory"),
        ("photos", {"crop": 4}, "crop=4 does not fit images"),
        ("photos/cat", {}, "photos/cat: has no subfolders, which would be its classes"),
        ("photos/readme.txt", {}, "photos/readme.txt: is not a folder"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_read_is_refused(photos, path, settings, expected):
    with pytest.raises(DataError, match=expected):
        data.folder(path, **settings)


def test_files_that_cannot_be_read_are_named_each_with_the_reason(photos):
    whole = Path("photos/dog/2.png").read_bytes()
    Path("photos/cat/a.png").write_bytes(b"no image")  # the first, of which the size would be taken
    Path("photos/dog/cut.png").write_bytes(whole[:60])
    os.mkfifo("photos/dog/pipe.png")
    with pytest.raises(DataError) as caught:
        data.folder("photos")
    lines = str(caught.value).split("\n")
    assert lines[0] == "photos/cat/a.png: is not a PNG or JPEG file" and len(lines) == 3
    assert lines[1].startswith("  photos/dog/cut.png: cannot be read: ")
    assert lines[2] == "  photos/dog/pipe.png: is not a file"
    for i in range(12):
        Path(f"photos/dog/{i}0.png").write_bytes(b"")
    with pytest.raises(DataError, match="and 6 more"):
        data.folder("photos")
    for path in Path("photos").rglob("*.png"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(DataError, match="is not a PNG or JPEG file"):
        data.folder("photos", classes=["cat"])


def test_a_class_without_images_is_named(photos):
    Path("photos/cow").mkdir()
    Path("photos/cow/1.gif").touch()
    with pytest.raises(DataError, match=r"photos/cow: no images in this folder\n.*\.png, \.jpg or \.jpeg"):
        data.folder("photos")


def test_images_of_too_many_pixels_are_not_decoded(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # 24 is a warning of Pillow's
    monkeypatch.setattr(folders.Pictures, "_fitted", lambda *args: pytest.fail("decoded"))
    before = list(warnings.filters)
    with pytest.raises(DataError, match=r"photos/cat/a.png: has more than 20 pixels, Pillow's limit"):
        data.folder("photos")
    assert warnings.filters == before


def test_many_files_are_read_in_order_and_shown_on_a_terminal(tmp_path, monkeypatch, terminal):
    monkeypatch.chdir(tmp_path)
    pixels = [picture(tmp_path / f"many/{'ab'[i // 200]}/{i:03}.png", (2, 2), "L") for i in range(300)]
    monkeypatch.setattr(folders, "AHEAD", 3)
    found = data.folder("many", channels=1)
    np.testing.assert_array_equal(found.images, pixels)
    assert found.labels.tolist() == [0] * 200 + [1] * 100
    assert "reading many" in terminal.getvalue()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("minet-images")]


def test_nothing_is_shown_elsewhere(photos, capfd):
    data.folder("photos")
    assert capfd.readouterr() == ("", "")


MODEL = """from minet import SGD, SoftmaxCrossEntropy, data
from minet.layers import Conv, GaussianPool, Linear, ReLU
input_shape, batch, epochs, loss = (3, 8, 8), 8, 1, SoftmaxCrossEntropy()
def net(): return [Conv(4, 3, pad=1), ReLU(), GaussianPool(4), Linear(2)]
def solver(): return SGD(0.02)
def datasets(names=("red", "blue"), mean=100.0):
    photos = data.folder("photos", size=10, classes=names, mean=mean, augment=[data.Flip(), data.Crop(8)])
    return photos.split(0.8, seed=1)
"""


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_a_folder_of_pngs_trains_is_tested_and_predicts_by_its_class_names(tmp_path, monkeypatch):
    """Three lines of the model file are about the data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINET_DATA", "")
    Path("model.py").write_text(MODEL)
    for i in range(48):
        colour, name = ((220, 40, 30), "red") if i % 2 else ((30, 50, 200), "blue")
        path = Path(f"photos/{name}/{i:02}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = RNG.integers(-20, 21, (12, 14, 3))
        Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(path)
    trained = minet("train", "model.py", "--epochs", 3)
    assert trained.exit_code == 0, trained.output
    assert "photos, part 1: 38 images, photos, part 2: 10" in trained.output
    said = minet("predict", "model", "photos/red/01.png", "photos/blue", "--resize", "--json")
    assert said.exit_code == 0, said.output
    classes = [line.split('"class": "')[1].split('"')[0] for line in said.output.splitlines()]
    assert classes == ["red"] + ["blue"] * 24
    # The run's own mean and scale are used, whatever the model file now says.
    before, after = minet("eval", "model.py").output, minet("eval", "model.py", "--set", "mean=0.0").output
    assert before.startswith("accuracy 100.00 %, loss ") and before.split(" on ")[0] == after.split(" on ")[0]
    rows = [line.split() for line in minet("eval", "model.py", "--by-class").output.splitlines()[2:]]
    assert [row[0] for row in rows] == ["class", "red", "blue"]
    assert all(row[1:] == ["5", "100.00", "%"] for row in rows[1:])
    renamed = minet("eval", "model.py", "--set", "names=('blue', 'red')")
    assert renamed.exit_code == 2
    assert "label 0 is 'blue', and was 'red' when" in renamed.output.replace("\n", " ")
