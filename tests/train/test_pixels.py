"""Pixels: what a checkpoint keeps of a training set is what the data set does."""

import json

import numpy as np
import pytest

from minet.core.files import FileError
from minet.data import Dataset, digits
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
