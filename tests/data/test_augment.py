"""Augmentation: against NumPy, image by image and step by step; its draws; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minet import data
from minet.data import (
    Augmentation,
    Batches,
    Brightness,
    Crop,
    Cutout,
    DataError,
    Dataset,
    Flip,
    Shift,
    batches,
)

STREAMS = {Crop: 1, Cutout: 2, Brightness: 3}


def images(n=40, shape=(2, 9, 21), dtype=np.uint8):
    drawn = np.random.default_rng(3).integers(0, 256, (n, *shape), dtype=np.uint8)
    return drawn if dtype == np.uint8 else drawn.astype(dtype) / dtype(7)


def of(augment, n=40, **more):
    more = {"mean": (100, 50), "std": (60, 70)} | more
    return Dataset(images(n), np.arange(n) % 4, augment=augment, **more)


def words(seed, epoch, index, stream=0, number=0):
    """An image's four words, drawn for it alone: Philox numbers its blocks from 1."""
    counter = np.array([index, 0, number, stream], np.uint64)
    key = np.array([seed, epoch], np.uint64)
    return [int(word) for word in np.random.Philox(key=key, counter=counter).random_raw(4)]


def oracle(data, index, seed, epoch, dtype=np.float32):
    """One image as it should enter the net: each augmentation done to all its pixels, one after the other.

    Pixels that are to be 0 are NaN until the end.
    """
    pixels = data.images[index].astype(np.float32)
    gain = np.float32(1)
    seen = {}
    for one in data.augment:
        kind = type(one)
        number = seen[kind] = seen.get(kind, -1) + 1
        w = words(seed, epoch, index, STREAMS.get(kind, 0), number)
        H, W = pixels.shape[1:]
        if kind is Flip and w[3] >> 63:
            pixels = pixels[:, :, ::-1]
        elif kind is Shift:
            p = one.pixels
            down, right = (word % (2 * p + 1) for word in w[1:3])
            pixels = np.pad(pixels, ((0, 0), (p, p), (p, p)), constant_values=np.nan)
            pixels = pixels[:, down : down + H, right : right + W]
        elif kind is Crop:
            h, v = one.size if isinstance(one.size, tuple) else (one.size, one.size)
            top, left = w[0] % (H - h + 1), w[1] % (W - v + 1)
            pixels = pixels[:, top : top + h, left : left + v]
        elif kind is Cutout:
            h, v = one.size if isinstance(one.size, tuple) else (one.size, one.size)
            top, left = w[0] % H - h // 2, w[1] % W - v // 2
            pixels = pixels.copy()
            pixels[:, max(top, 0) : max(top + h, 0), max(left, 0) : max(left + v, 0)] = np.nan
        elif kind is Brightness:
            gain = np.float32(1) + np.float32(one.amount) * np.float32(2 * ((w[0] >> 40) / 2**24) - 1)
            pixels = np.minimum(pixels * gain, np.float32(data.white or np.inf))
    column = (slice(None), None, None)
    return np.nan_to_num((pixels - data.mean[column]) / data.std[column], nan=0).astype(dtype)


def check(data, batch, seed=5, epoch=3, dtype="float32"):
    """Compare all images of an epoch with the oracle, bit for bit; return them by index."""
    made = Batches(data, batch, seed=seed, dtype=dtype)
    order, found = made._plan(epoch).order, {}
    for k, (x, _) in enumerate(made.epoch(epoch)):
        assert x.shape == (*data.image_shape, batch) and x.dtype == dtype
        for n in range(batch):
            index = int(order[k * batch + n])
            np.testing.assert_array_equal(x[..., n], oracle(data, index, seed, epoch, dtype))
            found[index] = x[..., n]
    return found


LISTS = [
    [], [Flip()], [Shift(3)], [Shift(8)], [Crop((5, 18))], [Cutout(4)], [Cutout((3, 20))], [Brightness(0.4)],
    [Shift(2), Flip()], [Flip(), Shift(2)], [Crop((7, 19)), Shift(2)], [Shift(2), Crop((7, 19))],
    [Cutout(5), Flip(), Shift(3)], [Flip(), Crop(6), Cutout(3), Cutout((1, 6)), Shift(2)],
    [Flip(), Shift(4), Crop((8, 17)), Cutout(4), Brightness(0.2)],
]  # fmt: skip


@pytest.mark.parametrize(
    "augment", LISTS, ids=lambda augment: " ".join(type(one).__name__ for one in augment)
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 8, 19, 40])
def test_a_batch_is_what_numpy_makes_of_its_images(augment, dtype, batch):
    check(of(augment), batch, dtype=dtype)


@pytest.mark.parametrize("augment", [LISTS[-1], [Brightness(1)]], ids=["all", "bright"])
@pytest.mark.parametrize("white", [None, 20.0])
def test_real_pixels(augment, white):
    data = Dataset(images(dtype=np.float32), np.zeros(40, int), augment=augment, white=white, mean=3, std=5)
    check(data, 20)


sizes = st.integers(1, 5)
augmentations = st.one_of(
    st.builds(Cutout, st.tuples(sizes, sizes)), st.builds(Cutout, sizes)
) | st.sampled_from([Flip(), Shift(4), Shift(1), Crop((5, 6)), Brightness(0.5)])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(augmentations, max_size=5, unique_by=lambda one: id(one) if type(one) is Cutout else type(one)),
    st.integers(5, 9), st.integers(6, 40), st.integers(1, 9), st.integers(0, 2**40),
)  # fmt: skip
def test_any_list_on_images_of_any_size(augment, H, W, batch, seed):
    data = Dataset(images(9, (1, H, W)), np.zeros(9, int), augment=augment, mean=90, std=50)
    check(data, batch, seed, 1)


def test_flip_and_crop_are_settings_of_the_same():
    """And draw the same, so that a run goes on when its model file is rewritten."""
    old, new = of([], flip=True, crop=3), of([Shift(3), Flip()])
    assert old.augment == new.augment == (Shift(3), Flip())
    for (x, _), (y, _) in zip(Batches(old, 8).epoch(2), Batches(new, 8).epoch(2), strict=True):
        np.testing.assert_array_equal(x, y)
    assert of([Cutout(2)], flip=True).augment == (Flip(), Cutout(2))


def test_what_is_drawn_does_not_depend_on_what_else_is_drawn():
    def plan(*augment):
        return Batches(of(augment), 8, seed=1)._plan(4)

    alone, among = plan(Cutout(3)), plan(Brightness(0.3), Cutout(3), Cutout(2))
    np.testing.assert_array_equal(alone.order, among.order)
    np.testing.assert_array_equal(alone.holes[:, 0], among.holes[:, 0])
    np.testing.assert_array_equal(plan(Brightness(0.3)).gain, among.gain)
    np.testing.assert_array_equal(plan(Flip()).moves[:, 2], plan(Shift(2), Crop(5), Flip()).moves[:, 2])
    assert not np.array_equal(among.holes[:, 0, 0], among.holes[:, 1, 0])


def test_an_images_draw_depends_on_seed_epoch_and_index_alone():
    augment = LISTS[-1]
    many, few = check(of(augment), 40), check(of(augment, 9), 3)
    assert sorted(few) == list(range(9))
    for index, image in few.items():
        np.testing.assert_array_equal(image, many[index])
    other = check(of(augment), 40, epoch=4)
    assert sum(not np.array_equal(other[index], many[index]) for index in many) > 35


def test_draws_are_uniform():
    n = 4000
    data = Dataset(np.full((n, 1, 6, 6), 100, np.uint8), np.zeros(n, int), augment=[Brightness(0.5), Crop(4)])
    plan = Batches(data, 1)._plan(0)
    share = np.histogramdd(plan.moves[:, :2], bins=(3, 3))[0] / n
    np.testing.assert_allclose(share, 1 / 9, atol=0.023)  # about 4.6 standard errors
    assert plan.gain.min() >= 0.5 and plan.gain.max() <= 1.5
    np.testing.assert_allclose(np.histogram(plan.gain, 5, (0.5, 1.5))[0] / n, 0.2, atol=0.03)


PINNED = {
    "order": [1, 0, 2, 3],
    "moves": [[1, 7, 0], [1, 6, 0], [4, 5, 0], [1, 0, 0]],
    "holes": [[0, 3, 13, 16], [0, 3, 10, 13], [7, 10, 6, 9], [3, 6, 3, 6]],
    "gain": [1.2671619653701782, 0.5634409785270691, 1.2896376848220825, 1.3019827604293823],
}


def test_the_draws_are_pinned():
    """A checkpoint resumes with the same images after an upgrade, on any machine."""
    plan = Batches(of([Crop((5, 12)), Cutout(3), Brightness(0.5)], 4), 4, seed=1)._plan(2)
    assert plan.order.tolist() == PINNED["order"]
    assert plan.moves.tolist() == PINNED["moves"]
    assert plan.holes[:, 0].tolist() == PINNED["holes"]
    assert plan.gain.tolist() == PINNED["gain"]


def test_a_test_set_is_cut_in_the_middle_and_otherwise_as_it_is():
    data = of(LISTS[-1])
    assert data.image_shape == (2, 8, 17)
    (x, labels), *_ = Batches(data, 40, train=False, seed=9).epoch(7)
    expected = data.normalize(data.images)
    assert expected.shape == (40, 2, 8, 17)
    np.testing.assert_array_equal(expected, data.normalize(data.images[:, :, 0:8, 2:19]))
    np.testing.assert_array_equal(x, expected.transpose(1, 2, 3, 0))
    assert labels.tolist() == data.labels.tolist()


def test_brightness_is_at_most_white():
    grey = np.full((50, 1, 2, 16), 200, np.uint8)
    bright = Dataset(grey, np.zeros(50, int), augment=[Brightness(0.9)])
    (x, _), *_ = Batches(bright, 50).epoch(0)
    assert x.max() == 255 and 20 <= x.min() < 60
    without = Dataset(grey, np.zeros(50, int), white=100.0)
    (x, _), *_ = Batches(without, 50).epoch(0)
    assert x.min() == x.max() == 200  # white alone changes nothing


def test_several_workers_make_the_same_batches(monkeypatch):
    data = of(LISTS[-1])
    expected = list(Batches(data, 3).epoch(1))
    monkeypatch.setattr(batches, "WORKERS", 3)
    for (x, labels), (x0, labels0) in zip(Batches(data, 3).epoch(1), expected, strict=True):
        np.testing.assert_array_equal(x, x0)
        np.testing.assert_array_equal(labels, labels0)


def test_built_in_data_take_augmentations():
    digits = data.digits("test", augment=[Shift(1), Crop(6)])
    assert digits.image_shape == (1, 6, 6) and digits.images.shape == (359, 1, 8, 8)
    assert repr(digits) == "Dataset('digits test', 359 images (1, 6, 6) uint8, 10 classes)"


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        ([Shift(9)], r"Shift\(pixels=9\) does not fit images of shape \(2, 9, 21\)\n  hint: the largest"),
        ([Shift(-1)], "Shift"), ([Shift(1.5)], "Shift"), ([Shift(True)], "Shift"),
        ([Crop(10)], "the window must fit into the images"), ([Crop(0)], "the size must be a whole number"),
        ([Crop((3, 22))], "window must fit"), ([Crop((3, 2, 1))], "the size must be"),
        ([Crop("a")], "the size"),
        ([Crop(None)], "does not fit"), ([Crop((4, 5)), Cutout(5)], r"Cutout.* of shape \(2, 4, 5\)"),
        ([Cutout(22)], "the hole must not be larger"), ([Cutout(-1)], "Cutout"),
        ([Brightness(1.1)], "the amount must be a number from 0 to 1"), ([Brightness("a")], "the amount"),
        ([Brightness(np.nan)], "the amount"), ([Flip], r"got <class .*Flip'>\n  hint: Flip\(\.\.\.\)"),
        ("flip", r"augment takes a list of augmentations, got 'flip'\n  hint: augment=\[Shift"),
        (None, "augment takes a list"), ([Flip(), Shift(1), Flip()], "Flip is asked for twice"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused(augment, expected):
    with pytest.raises(DataError, match=f"(?s)^mine: .*{expected}"):
        of(augment, name="mine")


def test_one_needs_no_list_and_twice_is_refused_across_settings():
    assert of(Cutout(3)).augment == (Cutout(3),)
    with pytest.raises(DataError, match=r"Shift is asked for twice\n  hint: .*crop=4 is Shift\(4\)"):
        of([Shift(2)], crop=1)


def test_maps_allow_what_does_not_move_images():
    maps = np.zeros((40, 9, 21))
    data = Dataset(images(), maps, augment=[Cutout(2), Brightness(0.1)])
    check(data, 8)
    with pytest.raises(
        DataError, match=r"Crop\(size=5\) moves the images, but not their targets \(1, 9, 21\)"
    ):
        Dataset(images(), maps, augment=[Crop(5)])


def test_nothing_beside_the_images_is_read_or_written():
    """The first and last image, shifted as far as possible, between pages of other numbers."""
    around = np.full((6, 1, 4, 33), 255, np.uint8)
    around[2:4] = 7
    data = Dataset(around[2:4], [0, 1], augment=[Shift(3), Flip()], mean=7)
    for epoch in range(20):
        for x, _ in Batches(data, 2).epoch(epoch):
            assert not x.any()


def test_a_test_sees_float_images_above_white_as_they_are():
    x = np.full((2, 1, 4, 4), 1.5, np.float32)
    data = Dataset(x, np.zeros(2, int), augment=[Brightness(0.5)], white=1.0)
    ((batch, _),) = Batches(data, 2, train=False).epoch(0)
    np.testing.assert_array_equal(batch.transpose(3, 0, 1, 2), data.normalize(x))


def own(change, **members):
    made = type("Own", (Augmentation,), {"apply": lambda self, frames, words: change(frames), **members})()
    return Batches(of([Shift(1), made]), 8)


def assign(name, value):
    return lambda frames: setattr(frames, name, value(frames))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            assign("gain", lambda _: np.ones(3, np.float32)),
            r"Own leaves frames\.gain as float32 \(3,\), not float",
        ),
        (assign("gain", lambda frames: frames.gain * 2.0**0.5), None),
        (assign("gain", lambda frames: frames.gain.astype(float)), r"frames\.gain as float64 \(40,\)"),
        (assign("gain", lambda _: None), r"frames\.gain as None, not float32 \(40,\)"),
        (
            assign("moves", lambda frames: frames.moves + 0.5),
            r"frames\.moves as float64 \(40, 3\), not int64",
        ),
        (assign("height", lambda _: 4), r"Own leaves frames of \(4, 21\), but its frame\(\) says \(9, 21\)"),
        (lambda frames: frames.holes.append(np.zeros((1, 4), int)), r"frames\.holes\[0\] as int64 \(1, 4\)"),
        (
            lambda frames: frames.inside.__setitem__((0, 1), 10),
            r"frames\.inside outside of the images, \(9, 21\)",
        ),
        (lambda frames: frames.inside.__setitem__((0, 2), -1), r"frames\.inside outside"),
        (lambda frames: frames.moves.__setitem__((0, 0), 99), None),
        (lambda frames: frames.moves.__setitem__((0, 2), 7), r"frames\.moves\[:, 2\] other than 0 and 1"),
    ],
)
def test_frames_that_cannot_be_read_are_refused_by_the_name_of_what_made_them(change, message):
    if message is None:
        next(own(change).epoch(0))
        return
    with pytest.raises(DataError, match=message):
        next(own(change).epoch(0))


def test_an_own_crop_may_change_the_frames():
    def smaller(frames):
        frames.height = 4

    x, _ = next(own(smaller, frame=lambda self, shape: (shape[0], 4, shape[2])).epoch(0))
    assert x.shape == (2, 4, 21, 8)
