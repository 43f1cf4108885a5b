"""Augmentation: what a training batch does to each image, as a list of settings.

>>> data.cifar10("train", augment=[Shift(4), Flip(), Cutout(8)])

Each draws for every image by a counter: what it draws depends on the seed, the epoch and the image's index
alone. Nothing is computed here but where pixels come from. `minet.loops.gather` then makes the batch in one
pass, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minet.core.settings import is_real, is_whole
from minet.data.errors import DataError

Shape = tuple[int, int, int]
Words = NDArray[np.uint64]  # (n, 4)
WORD = 2**64 - 1


class Draws(NamedTuple):
    """The random words of one epoch: four for each image, from streams that do not depend on each other."""

    seed: int
    epoch: int
    images: int

    def words(self, stream: int = 0, number: int = 0) -> Words:
        """One Philox4x64 block for each image, numbered by its index.

        Raw words, because Generator's methods may change with NumPy.
        """
        key = (int(self.epoch) & WORD) << 64 | int(self.seed) & WORD
        philox = np.random.Philox(key=key, counter=stream << 192 | number << 128)
        return philox.random_raw(4 * self.images).reshape(self.images, 4)


@dataclass
class Frames:
    """Where the pixels of each image's frame come from, as `minet.loops.gather` reads it.

    Attributes
    ----------
    height, width : int
        Of the frame, which at first is the whole image.
    moves : ndarray of int64, (n, 3)
        Rows down, columns to the right, and 1 if mirrored.
    inside : ndarray of int64, (n, 4)
        Top, bottom, left and right of the stored pixels that may be seen; others are 0.
    holes : list of ndarray of int64, (n, 4)
        Such rectangles that are 0.
    gain : ndarray of float32, (n,)
    """

    height: int
    width: int
    moves: NDArray[np.int64]
    inside: NDArray[np.int64]
    holes: list[NDArray[np.int64]]
    gain: NDArray[np.float32]

    @classmethod
    def whole(cls, images: int, height: int, width: int) -> Frames:
        """All of each image."""
        inside = np.tile(np.array([0, height, 0, width]), (images, 1))
        return cls(height, width, np.zeros((images, 3), np.int64), inside, [], np.ones(images, np.float32))

    def columns(self, left: Any, width: int) -> Any:
        """The first of the stored columns that the frame's columns ``left .. left+width-1`` come from."""
        mirrored = self.width - width - left
        return self.moves[:, 1] + np.where(self.moves[:, 2], mirrored, left)


class Augmentation:
    """What is done to images in training."""

    stream: ClassVar[int] = 0  # of its draws; Flip and Shift share the order's, of which they have words
    moves_images: ClassVar[bool] = False  # and so would have to move target maps
    repeats: ClassVar[bool] = False  # may be in a list twice

    def frame(self, shape: Shape) -> Shape:
        """The shape after it of images of this shape; ValueError, with what is wrong, if they do not fit."""
        return shape

    def apply(self, frames: Frames, words: Words) -> None:
        """Draw for each image of a training epoch."""
        raise NotImplementedError

    def rest(self, frames: Frames) -> None:
        """Do what it does to all images alike, in evaluation."""


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirror each image left to right with probability 1/2."""

    moves_images = True

    def apply(self, frames: Frames, words: Words) -> None:
        frames.moves[:, 2] ^= (words[:, 3] >> np.uint64(63)).astype(np.int64)


@dataclass(frozen=True)
class Shift(Augmentation):
    """Shift each image by up to `pixels` along each axis; what comes from outside is 0 after normalisation.

    With a margin of 4 that is what is called a random crop with padding 4.
    """

    pixels: int
    moves_images = True

    def frame(self, shape: Shape) -> Shape:
        if not is_whole(self.pixels) or not 0 <= self.pixels < min(shape[1:]):
            raise ValueError("the largest shift in pixels must be smaller than height and width")
        return shape

    def apply(self, frames: Frames, words: Words) -> None:
        steps = (words[:, 1:3] % np.uint64(2 * self.pixels + 1)).astype(np.int64) - self.pixels
        # Only what the frame holds now may be seen later.
        top, left = frames.moves[:, 0], frames.columns(0, frames.width)
        for low, high, start, size in ((0, 1, top, frames.height), (2, 3, left, frames.width)):
            np.maximum(frames.inside[:, low], start, out=frames.inside[:, low])
            np.minimum(frames.inside[:, high], start + size, out=frames.inside[:, high])
        frames.moves[:, 0] += steps[:, 0]
        frames.moves[:, 1] += np.where(frames.moves[:, 2], -steps[:, 1], steps[:, 1])


@dataclass(frozen=True)
class Crop(Augmentation):
    """Cut a window out of each image: at a random place in training, from the middle otherwise.

    The net's input is of the window's size. A test set needs the same Crop.

    Parameters
    ----------
    size : int or (int, int)
        Height and width.
    """

    size: int | tuple[int, int]
    stream = 1
    moves_images = True

    def frame(self, shape: Shape) -> Shape:
        height, width = _pair(self.size)
        if height > shape[1] or width > shape[2]:
            raise ValueError("the window must fit into the images")
        return shape[0], height, width

    def apply(self, frames: Frames, words: Words) -> None:
        height, width = _pair(self.size)
        tops = (words[:, 0] % np.uint64(frames.height - height + 1)).astype(np.int64)
        lefts = (words[:, 1] % np.uint64(frames.width - width + 1)).astype(np.int64)
        self._cut(frames, tops, lefts)

    def rest(self, frames: Frames) -> None:
        height, width = _pair(self.size)
        self._cut(frames, (frames.height - height) // 2, (frames.width - width) // 2)

    def _cut(self, frames: Frames, tops: Any, lefts: Any) -> None:
        height, width = _pair(self.size)
        frames.moves[:, 0] += tops
        frames.moves[:, 1] = frames.columns(lefts, width)
        frames.height, frames.width = height, width


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Make a rectangle of each image 0 after normalisation; its centre may be any pixel, so it may hang over.

    Source: DeVries and Taylor (2017), "Improved regularization of convolutional neural networks with
    cutout", arXiv 1708.04552.

    Parameters
    ----------
    size : int or (int, int)
        Height and width.
    """

    size: int | tuple[int, int]
    stream = 2
    repeats = True

    def frame(self, shape: Shape) -> Shape:
        height, width = _pair(self.size)
        if height > shape[1] or width > shape[2]:
            raise ValueError("the hole must not be larger than the images")
        return shape

    def apply(self, frames: Frames, words: Words) -> None:
        height, width = _pair(self.size)
        tops = (words[:, 0] % np.uint64(frames.height)).astype(np.int64) - height // 2 + frames.moves[:, 0]
        lefts = frames.columns((words[:, 1] % np.uint64(frames.width)).astype(np.int64) - width // 2, width)
        frames.holes.append(np.stack([tops, tops + height, lefts, lefts + width], axis=1))


@dataclass(frozen=True)
class Brightness(Augmentation):
    """Multiply the pixels of each image by a number from ``1 - amount`` to ``1 + amount``, drawn uniformly.

    The product is at most white, if the data set knows what its white is.
    """

    amount: float
    stream = 3

    def frame(self, shape: Shape) -> Shape:
        if not is_real(self.amount) or not 0 <= self.amount <= 1:
            raise ValueError("the amount must be a number from 0 to 1")
        return shape

    def apply(self, frames: Frames, words: Words) -> None:
        uniform = (words[:, 0] >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        frames.gain *= np.float32(1) + np.float32(self.amount) * (2 * uniform - 1)


def checked(
    augment: Any, shape: Shape, name: str, before: Sequence[Augmentation] = ()
) -> tuple[tuple[Augmentation, ...], Shape]:
    """A list of augmentations that fit images of this shape, after others, and the shape that all leave."""
    several = isinstance(augment, Iterable) and not isinstance(augment, str)
    listed: tuple[Any, ...] = (*before, *(augment if several else (augment,)))
    for number, one in enumerate(listed):
        if not isinstance(one, Augmentation):
            made = f"{one.__name__}(...)" if isinstance(one, type) else "augment=[Shift(4), Flip()]"
            raise DataError(f"{name}: augment takes a list of augmentations, got {one!r:.60}", made)
        if not one.repeats and any(type(one) is type(other) for other in listed[:number]):
            kind = type(one).__name__
            raise DataError(
                f"{name}: {kind} is asked for twice",
                "flip=True is Flip(), and crop=4 is Shift(4): leave one out",
            )
        try:
            shape = one.frame(shape)
        except (ValueError, TypeError) as error:
            raise DataError(f"{name}: {one} does not fit images of shape {shape}", str(error)) from None
    return listed, shape


def framed(augment: Sequence[Augmentation], shape: Shape, draws: Draws, train: bool) -> Frames:
    """The frames of all images, by their indices."""
    frames = Frames.whole(draws.images, *shape[1:])
    shared, seen, size = draws.words() if train else None, dict[int, int](), shape[1:]
    for one in augment:
        if shared is None:
            one.rest(frames)
        else:
            number = seen[one.stream] = seen.get(one.stream, -1) + 1
            one.apply(frames, draws.words(one.stream, number) if one.stream else shared)
        if type(one).__module__ != __name__:
            _check_frames(type(one).__name__, frames, draws.images, shape, one.frame((shape[0], *size)))
        size = frames.height, frames.width
    return frames


def _check_frames(name: str, frames: Frames, images: int, stored: Shape, left: Shape) -> None:
    """Raise DataError unless an own augmentation's frames are what `minet.loops.gather` can read."""
    arrays = {"moves": (frames.moves, 3), "inside": (frames.inside, 4)}
    arrays |= {f"holes[{i}]": (hole, 4) for i, hole in enumerate(frames.holes)}
    wanted = {key: (value, (images, count), "int64") for key, (value, count) in arrays.items()}
    for key, (value, shape, dtype) in (wanted | {"gain": (frames.gain, (images,), "float32")}).items():
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
            found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"{value!r:.60}"
            raise DataError(f"{name} leaves frames.{key} as {found}, not {dtype} {shape}", "write into it")
    inside = frames.inside
    if (inside[:, ::2] < 0).any() or (inside[:, 1::2] > stored[1:]).any():
        raise DataError(
            f"{name} leaves frames.inside outside of the images, {stored[1:]}", "only make it smaller"
        )
    if not np.isin(frames.moves[:, 2], (0, 1)).all():
        raise DataError(
            f"{name} leaves frames.moves[:, 2] other than 0 and 1", "frames.moves[:, 2] ^= 1 mirrors"
        )
    if (frames.height, frames.width) != left[1:]:
        size = f"frames of {(frames.height, frames.width)}, but its frame() says {left[1:]}"
        raise DataError(f"{name} leaves {size}", "override both")


def _pair(size: Any) -> tuple[int, int]:
    """(height, width) of a size."""
    pair = (size, size) if is_whole(size) else tuple(size)
    if len(pair) != 2 or not all(is_whole(one) and one > 0 for one in pair):
        raise ValueError("the size must be a whole number above 0, or (height, width)")
    return pair
