"""Parts of a data set: indices, splits, and numbers measured on its images."""

from __future__ import annotations

import numpy as np
import pytest

from minet.data import Batches, Crop, DataError, Dataset, Flip

IMAGES = np.arange(20 * 2 * 3 * 4, dtype=np.uint16).reshape(20, 2, 3, 4).astype(np.uint8)
LABELS = np.arange(20) % 3
SET = Dataset(
    IMAGES, LABELS, classes=("a", "b", "c", "d"), mean=(1, 2), std=(3, 4), augment=[Flip(), Crop(2)],
    white=200.0, name="mine",
)  # fmt: skip


@pytest.mark.parametrize(
    ("index", "expected", "name"),
    [
        (slice(10, 15), range(10, 15), "mine[10:15]"), (slice(None, 3), range(3), "mine[:3]"),
        (slice(-2, None), (18, 19), "mine[-2:]"), (slice(None), range(20), "mine[:]"),
        (slice(0, 20, 7), (0, 7, 14), "mine[0:20:7]"),
        (slice(None, None, -1), range(19, -1, -1), "mine[::-1]"),
        ([3, 1, 1], (3, 1, 1), "mine[3 of 20]"), (np.array([-1]), (19,), "mine[1 of 20]"),
        (LABELS == 2, range(2, 20, 3), "mine[6 of 20]"), ((4, 5), (4, 5), "mine[2 of 20]"),
    ],
    ids=str,
)  # fmt: skip
def test_a_part_keeps_images_labels_and_settings(index, expected, name):
    part, expected = SET[index], list(expected)
    assert type(part) is Dataset and len(part) == len(expected) and part.name == name
    np.testing.assert_array_equal(part.images, IMAGES[expected])
    np.testing.assert_array_equal(part.labels, LABELS[expected])
    assert part.images.flags.c_contiguous and part.labels.flags.c_contiguous
    for kept in ("classes", "names", "augment", "white", "image_shape"):
        assert getattr(part, kept) == getattr(SET, kept)
    assert part.mean is SET.mean and part.std is SET.std and SET.name == "mine" and len(SET) == 20


def test_a_slice_shares_memory_and_its_batches_are_its_own():
    part = SET[5:11]
    assert np.shares_memory(part.images, SET.images)
    (_, labels), *_ = Batches(part, 6, train=False).epoch(0)
    assert labels.tolist() == LABELS[5:11].tolist()


def test_one_image_and_all_of_them():
    image, label = SET[7]
    np.testing.assert_array_equal(image, IMAGES[7])
    assert label == 1 and SET[np.int64(-1)][1] == LABELS[19]
    assert [label for _, label in SET] == LABELS.tolist()
    with pytest.raises(IndexError):
        SET[20]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(5, 5), r"\[5:5\] holds none of its 20 images"), (slice(30, 40), "holds none"),
        ([], "cannot take the images"), (np.array([], int), "none of its 20 images is chosen"),
        (np.zeros(20, bool), "none of its 20 images is chosen"), ([True, False], "cannot take the images"),
        ([3, 20], r"there is no image 20\n  hint: it has 20, from 0 to 19"), ([-21], "there is no image -21"),
        ("a", "cannot take the images 'a'"), (1.5, "cannot take"), (slice("a", None), "cannot take"),
        (None, "cannot take"), ((slice(2), 1), "cannot take"), (np.zeros((2, 2), int), "cannot take"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_part_is_refused(index, expected):
    with pytest.raises(DataError, match=f"^mine: .*{expected}|^mine: {expected}"):
        SET[index]


def test_a_split_has_each_image_once_and_each_class_alike():
    labels = np.repeat([0, 1, 2, -1], [50, 30, 7, 13])
    data = Dataset(np.arange(100, dtype=np.uint8)[:, None, None], labels, name="mine")
    first, second = data.split(0.7, seed=3)
    assert (len(first), len(second), first.name, second.name) == (70, 30, "mine, part 1", "mine, part 2")
    assert sorted([*first.images.ravel(), *second.images.ravel()]) == list(range(100))
    for part in (first, second):
        assert (np.diff(part.images.ravel().astype(int)) > 0).all()  # in the order of the set
        np.testing.assert_array_equal(part.labels, labels[part.images.ravel()])
    counts = [int((first.labels == one).sum()) for one in (0, 1, 2, -1)]
    assert counts == [35, 21, 5, 9]  # 4.9 and 9.1, of which the first loses most by rounding down


def test_a_split_depends_on_its_seed_alone():
    whole, again, other = (SET.split(0.5, seed=seed)[0].images for seed in (0, 0, 1))
    np.testing.assert_array_equal(whole, again)
    assert not np.array_equal(whole, other)
    pinned = Dataset(np.arange(10, dtype=np.uint8)[:, None, None], [0] * 10)
    assert pinned.split(4, seed=1)[0].images.ravel().tolist() == PINNED


PINNED = [2, 3, 5, 9]


@pytest.mark.parametrize("share", [1, 7, 19, 0.05, 0.5, 0.95, np.float32(0.5)])
def test_sizes_of_splits(share):
    first, second = SET.split(share)
    count = share if isinstance(share, int) else round(float(share) * 20)
    assert (len(first), len(second)) == (count, 20 - count)
    exact = np.bincount(LABELS) * count / 20
    assert (abs(np.bincount(first.labels, minlength=3) - exact) < 1).all()


def test_targets_are_split_too():
    data = Dataset(IMAGES, np.arange(20.0))
    first, second = data.split(0.75)
    assert len(first) == 15 and sorted([*first.labels.ravel(), *second.labels.ravel()]) == list(range(20))


@pytest.mark.parametrize(
    ("share", "seed", "expected"),
    [
        (0, 0, r"split\(0\) of 20 images leaves a part empty"), (20, 0, "leaves a part empty"),
        (0.001, 0, "leaves a part empty"), (1.0, 0, "cannot split at 1.0"), (-0.5, 0, "cannot split"),
        ("a", 0, "cannot split at 'a'"), (True, 0, "cannot split"), (0.5, 0.5, "seed must be a whole number"),
    ],
)  # fmt: skip
def test_what_is_no_split_is_refused(share, seed, expected):
    with pytest.raises(DataError, match=f"^mine: .*{expected}"):
        SET.split(share, seed)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mean_and_std_are_measured(dtype):
    drawn = np.random.default_rng(0).integers(0, 256, (30, 3, 5, 7)).astype(dtype)
    drawn[:, 2] = 9
    data = Dataset(drawn, [0] * 30, mean="measured", std="measured")
    exact = drawn.astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(data.mean, exact.mean(1), rtol=1e-6)
    np.testing.assert_allclose(data.std, [*exact.std(1)[:2], 1], rtol=1e-6)
    half = Dataset(drawn, [0] * 30, mean=5, std="measured")
    assert half.mean.tolist() == [5, 5, 5] and half.std.tolist() == data.std.tolist()
    with pytest.raises(DataError, match=r"mean='median' does not fit .*\n.*or .measured"):
        Dataset(drawn, [0] * 30, mean="median", std="measured")
