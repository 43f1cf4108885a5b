"""The fingerprint of a data set: another one for other data."""

import numpy as np
import pytest

from minet.data import Dataset
from minet.train.fingerprint import fingerprint


def data(count=300, **more):
    rng = np.random.default_rng(0)
    return Dataset(rng.integers(0, 255, (count, 1, 4, 4), np.uint8), np.arange(count) % 3, **more)


def test_it_is_the_same_for_the_same_data():
    assert fingerprint(data()) == fingerprint(data(name="other"))
    assert len(fingerprint(data())) == 8


@pytest.mark.parametrize("image", [0, 299])
def test_it_differs_for_other_images_and_for_any_other_label(image):
    for attribute in ("images", "labels"):
        other = data()
        getattr(other, attribute)[image] ^= 1
        assert fingerprint(other) != fingerprint(data())
    middle = data()
    middle.labels[151] ^= 1
    assert fingerprint(middle) != fingerprint(data())


def test_few_images_are_read_all():
    for image in range(5):
        other = data(5)
        other.images[image, 0, 3, 3] ^= 1
        assert fingerprint(other) != fingerprint(data(5))
    assert fingerprint(data(1)) != fingerprint(data(2))
