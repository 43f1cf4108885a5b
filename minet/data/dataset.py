"""Dataset: images and labels or targets in memory, checked once, with normalisation and augmentation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minet.core.settings import is_real, is_whole
from minet.data.augment import Augmentation, Flip, Shift, checked
from minet.data.checks import check_labels, checked_images, checked_labels, checked_names
from minet.data.errors import DataError
from minet.data.parts import chosen, divided, middle

MEASURED = "measured"
FIXED = ("mean", "std", "flip", "crop", "augment")


class Dataset:
    """Images with labels or targets, and how to normalise and augment them.

    Parameters
    ----------
    images : array_like
        ``(N, C, H, W)``, or ``(N, H, W)`` for one channel. Bytes stay bytes; other numbers become float32
        and must be finite. An array that is C-contiguous and of one of these types is not copied.
    labels : array_like
        What a loss compares the net's outputs with. Whole numbers ``(N,)`` are class numbers in
        ``0 .. classes-1``; -1 is a label that the loss ignores. Anything else is a target for each image,
        laid out as an output of a net: real numbers ``(N,)`` or ``(N, K)``, and ``(N, P, Q)`` or
        ``(N, K, P, Q)`` for maps. They must be finite. Whole numbers ``(N, P, Q)`` may be class numbers too,
        one per position: that is for the loss to say.
    classes : int or sequence of str, optional
        The number of classes, or their names; by default the largest label plus one. Given with whole numbers
        ``(N, P, Q)``, it says that they are class numbers, which are then checked.
    mean, std : float or array_like of float, or "measured"
        Input to the net is ``(image - mean) / std``, in units of the stored pixel: one number, or one per
        channel. "measured" takes those of these images. A test set uses the values of its training set,
        ``mean=train.mean, std=train.std``. By default pixels are left unchanged.
    flip : bool
        In training, mirror each image left to right with probability 1/2: ``Flip()``.
    crop : int
        In training, shift each image by up to `crop` pixels along each axis: ``Shift(crop)``. Pixels from
        outside the image are 0 after normalisation.
    augment : sequence of Augmentation
        What else is done to images in training, in this order, after `crop` and `flip`: `Flip`, `Shift`,
        `Crop`, `Cutout`, `Brightness`. Target maps would not move along: they allow none of the first
        three.
    white : float, optional
        The number that a white pixel is stored as, to which ``minet predict`` scales image files. By default
        255 for bytes; for other numbers it is not known.
    name : str
        The name used in error messages.

    Attributes
    ----------
    images : ndarray of uint8 or float32, (N, C, H, W), C-contiguous
    labels : ndarray
        int64 ``(N,)``, or targets ``(N, K, P, Q)`` in float32 or, if they were whole numbers, int64.
    mean, std : ndarray of float32, (C,)
    classes : int or None
        None if the labels are not class numbers.
    names : tuple of str, or None
        The classes' names, if given.
    white : float or None
    augment : tuple of Augmentation
        Those of `crop` and `flip`, and those given.
    flip, crop, name
        As given.

    Raises
    ------
    DataError
        If any of this does not hold; the message names the first bad image.
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        classes: int | Sequence[str] | None = None,
        mean: ArrayLike | str = 0.0,
        std: ArrayLike | str = 1.0,
        flip: bool = False,
        crop: int = 0,
        augment: Sequence[Augmentation] = (),
        white: float | None = None,
        name: str = "data set",
    ) -> None:
        self.name = name
        self.images = checked_images(images, name)
        self.labels = checked_labels(labels, len(self.images), name)
        self.names: tuple[str, ...] | None = None
        if classes is not None and not is_whole(classes):
            self.names = checked_names(classes, name)
        count: Any = len(self.names) if self.names else classes
        if self.labels.ndim == 1 and count is None:
            count = max(int(self.labels.max()) + 1, 1)
        self.classes: int | None = count
        numbers = self.labels.ndim == 1 or (self.labels.dtype == np.int64 and self.labels.shape[1] == 1)
        if numbers and self.classes is not None:
            check_labels(self.labels, self.classes, name, least=-1)
        elif classes is not None:
            raise DataError(
                f"{name}: classes={classes!r:.60} is for class numbers, but these are targets",
                "leave it out, or use labels.astype(int)",
            )
        self.mean, self.std = (
            self._per_channel(setting, value)
            for setting, value in measured({"mean": mean, "std": std}, self.images).items()
        )
        if (self.std <= 0).any():
            raise DataError(f"{name}: std must be positive, got {std!r}", "use 1 for a constant channel")
        stored = self.images.shape[1:]
        if not is_whole(crop) or not 0 <= crop < min(stored[1:]):
            raise DataError(
                f"{name}: crop={crop!r:.60} does not fit images of shape {stored}",
                "crop, the largest shift in pixels, must be a whole number smaller than height and width",
            )
        if not (isinstance(flip, bool | np.bool_ | int | np.integer) and flip in (0, 1)):
            hint = "flip=True mirrors each image with probability 1/2"
            raise DataError(f"{name}: flip must be True or False, got {flip!r:.60}", hint)
        self.flip, self.crop = bool(flip), int(crop)
        before = [*([Shift(self.crop)] if crop else []), *([Flip()] if flip else [])]
        self.augment, self._shape = checked(augment, stored, name, before)
        moving = [one for one in self.augment if one.moves_images]
        if moving and self.labels.shape[2:] not in ((), (1, 1)):
            raise DataError(
                f"{name}: {moving[0]} moves the images, but not their targets {self.labels.shape[1:]}",
                "leave it out, and augment images and targets together before",
            )
        if white is not None and not (is_real(white) and white > 0):
            raise DataError(f"{name}: white must be a number above 0, got {white!r}", "255 for bytes")
        self.white = white if white is not None or self.images.dtype != np.uint8 else 255.0

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        images = f"{len(self)} images {self.image_shape} {self.images.dtype}"
        what = f"targets {self.labels.shape[1:]}" if self.classes is None else f"{self.classes} classes"
        return f"Dataset({self.name!r}, {images}, {what})"

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and name in vars(self):
            again = (
                "data.replaced(mean, std)"
                if name in FIXED[:2]
                else f"data.Dataset(..., {name}={value!r:.60})"
            )
            raise DataError(f"{self.name}: {name} is fixed when a data set is made", again)
        super().__setattr__(name, value)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the net's input: that of the images or, with `Crop`, of its window."""
        return self._shape

    def __getitem__(self, index: Any) -> Any:
        """A part of the data set with all its settings, or one image and its label.

        ``data[10:50]`` shares the images' memory if the step is 1; ``data[[3, 1, 4]]`` and
        ``data[data.labels == 2]`` copy them. ``data[3]`` is (image, label) as they are stored.

        Raises
        ------
        DataError
            If that holds no image. IndexError if there is no image of that number.
        """
        if is_whole(index):
            return self.images[index], self.labels[index]
        here, text = chosen(index, len(self), self.name)
        return self._part(here, f"{self.name}{text}")

    def split(self, share: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Split into two data sets at random, each in this one's order, with all its settings.

        Parameters
        ----------
        share : float or int
            The first part's share of the images, such as 0.9, or how many it has. Each class is split
            alike, to within one image.
        seed : int
            Which of the possible splits.

        Raises
        ------
        DataError
            If a part would be empty.
        """
        first, second = divided(share, self.labels, seed, self.name)
        return self._part(first, f"{self.name}, part 1"), self._part(second, f"{self.name}, part 2")

    def _part(self, index: slice | NDArray[np.int64], name: str) -> Dataset:
        part: Any = copy.copy(self)
        part.images, part.labels = (np.ascontiguousarray(a[index]) for a in (self.images, self.labels))
        part.name = name
        return part

    def replaced(self, mean: ArrayLike, std: ArrayLike) -> Dataset:
        """The same images, normalised by other values."""
        other = copy.copy(self)
        vars(other).update(mean=self._per_channel("mean", mean), std=self._per_channel("std", std))
        return other

    def centred(self, images: NDArray[Any]) -> NDArray[Any]:
        """What a net sees of stored images ``(N, C, H, W)`` in evaluation: all, or the middle, with Crop."""
        return middle(images, self.image_shape[1:])

    def normalize(self, images: ArrayLike) -> NDArray[np.float32]:
        """``(images - mean) / std`` in float32, for images ``(N, C, H, W)`` in units of the stored pixel.

        Images of the stored size are cut to the middle that `Crop` takes.
        """
        column = (slice(None), None, None)
        return (self.centred(np.asarray(images, np.float32)) - self.mean[column]) / self.std[column]

    def _per_channel(self, setting: str, value: ArrayLike | str) -> NDArray[np.float32]:
        channels = self.images.shape[1]
        try:
            values = np.asarray(value, np.float32)
        except (TypeError, ValueError):
            values = np.full(1, np.nan, np.float32)
        if values.shape not in ((), (1,), (channels,)) or not np.isfinite(values).all():
            raise DataError(
                f"{self.name}: {setting}={value!r} does not fit images of {channels} channel(s)",
                'give one finite number, or one per channel, or "measured"',
            )
        return np.broadcast_to(values, channels).copy()


def measured(settings: dict[str, Any], images: NDArray[Any]) -> dict[str, Any]:
    """Mean and std, with those of images (N, C, H, W) in place of "measured"; std 1 where it would be 0."""
    wanted = [name for name, value in settings.items() if isinstance(value, str) and value == MEASURED]
    if not wanted:
        return settings
    channels = images.swapaxes(0, 1)
    mean = np.array([one.mean(dtype=np.float64) for one in channels])
    squares = [sum(((image - mean[c]) ** 2).sum() for image in one) for c, one in enumerate(channels)]
    std = np.sqrt(np.array(squares) / channels[0].size)
    found = {"mean": mean, "std": np.where(std > 0, std, 1.0)}
    return settings | {name: found[name] for name in wanted}
