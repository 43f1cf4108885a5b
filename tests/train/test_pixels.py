"""Pixels: what a checkpoint keeps of a training set is what the data set does."""

import json

import numpy as np
import pytest

from minet.core.errors import MinetError
from minet.core.files import FileError
from minet.data import Crop, Dataset, Flip, digits
from minet.train.pixels import Pixels

DATA = Dataset(
    np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), [0, 1], classes=("cat", "dog"),
    mean=[0.1, 2, 3], std=[1 / 3, 1, 2],
)  # fmt: skip


def through(pixels, channels):
    """As a checkpoint gives them back."""
    return Pixels.from_facts("w", json.loads(json.dumps(pixels.facts)), channels)


@pytest.mark.parametrize("data", [DATA, digits(limit=5)], ids=["colour", "grey"])
def test_they_normalise_to_the_same_bits(data):
    pixels = through(Pixels.of(data), data.image_shape[0])
    assert pixels == Pixels.of(data) and not pixels.plain
    assert np.array_equal(pixels.normalize(data.images), data.normalize(data.images))


def test_names_and_numbers():
    pixels = through(Pixels.of(DATA), 3)
    assert (pixels.name(1), pixels.name(2), pixels.white) == ("dog", "2", 255.0)
    plain = Pixels.none(2)
    assert plain.plain and plain.name(7) == "7" and plain.white is None
    images = np.ones((1, 2, 3, 3))
    assert np.array_equal(plain.normalize(images), images)


def test_a_checkpoint_of_an_earlier_version_has_none():
    assert Pixels.from_facts("w", {}, 3) is None


GOOD = {"mean": [0.0], "std": [1.0], "white": None, "names": None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": None}, {"mean": [0.0, 0.0]}, {"mean": ["0"]}, {"mean": [float("nan")]}, {"std": [0.0]},
        {"std": [True]}, {"white": -1.0}, {"white": "255"}, {"white": 0}, {"names": "cat"}, {"names": [1]},
    ],
    ids=str,
)  # fmt: skip
def test_what_minet_never_writes_is_refused(wrong):
    assert Pixels.from_facts("w", {"pixels": GOOD}, 1) == Pixels.none(1)
    with pytest.raises(FileError, match="w: its pixels are"):
        Pixels.from_facts("w", {"pixels": GOOD | wrong}, 1)


def test_the_window_of_a_crop_is_kept():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 7, 9)).astype(np.uint8)
    data = Dataset(images, [0, 1], mean=3, augment=[Flip(), Crop((4, 5))])
    pixels = through(Pixels.of(data), 3)
    assert pixels == Pixels.of(data) and (pixels.stored, pixels.window) == ([7, 9], [4, 5])
    assert pixels.shape((3, 4, 5)) == (3, 7, 9) and Pixels.of(DATA).shape((3, 2, 2)) == (3, 2, 2)
    assert np.array_equal(pixels.normalize(images), data.normalize(images))
    assert np.array_equal(pixels.normalize(images), images[:, :, 1:5, 2:7].astype(np.float32) - 3)
    assert np.array_equal(pixels.normalize(images[:, :, 1:5, 2:7]), pixels.normalize(images))


@pytest.mark.parametrize(
    "wrong",
    [
        {"stored": [7, 9]}, {"window": [7, 9]}, {"stored": [7, 9], "window": [8, 5]},
        {"stored": 7, "window": 4},
        {"stored": [7, 9], "window": [4, 0]}, {"stored": [7, 9], "window": [4.0, 5]},
        {"stored": [7, 9, 1], "window": [4, 5, 1]},
    ],
    ids=str,
)  # fmt: skip
def test_windows_that_minet_never_writes_are_refused(wrong):
    assert Pixels.from_facts("w", {"pixels": GOOD | {"stored": [7, 9], "window": [4, 9]}}, 1).window == [4, 9]
    with pytest.raises(FileError, match="w: its pixels are"):
        Pixels.from_facts("w", {"pixels": GOOD | wrong}, 1)


def test_a_test_set_gets_the_values_of_the_run():
    now = Dataset(DATA.images, DATA.labels, classes=("cat", "dog"), mean=[9, 9, 9], augment=[Flip()])
    data = Pixels.of(DATA).applied(now, now, "w")
    assert (data.mean.tolist(), data.std.tolist()) == (DATA.mean.tolist(), DATA.std.tolist())
    assert data.images is now.images and data.augment == now.augment and now.mean.tolist() == [9, 9, 9]
    assert Pixels.none(3).applied(now, now[:1], "w").mean.tolist() == [0, 0, 0]
    assert Pixels.none(3).applied(DATA, now, "w") is now  # which has values of its own


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("dog", "cat"), "label 0 is 'dog', and was 'cat'"),
        (("cat", "dog", "owl"), "label 2 is 'owl', and was 'none'"),
        (("cat", "dog "), "label 1 is 'dog ', and was 'dog'"),
    ],
)  # fmt: skip
def test_a_test_set_of_other_classes_is_refused(names, what):
    now = Dataset(DATA.images, DATA.labels, classes=names, name="photos")
    with pytest.raises(
        MinetError, match=rf"photos: {what} when w was trained\n  hint: classes=\('cat', 'dog'\)"
    ):
        Pixels.of(DATA).applied(DATA, now, "w")
