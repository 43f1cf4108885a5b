"""Dataset: images and labels or targets in memory, checked once, with normalisation and augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minet.core.errors import MinetError
from minet.core.settings import is_real, is_whole


class DataError(MinetError):
    """A data set, or one of its files, that cannot be used: missing, damaged or inconsistent."""


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
    mean, std : float or array_like of float
        Input to the net is ``(image - mean) / std``, in units of the stored pixel: one number, or one per
        channel. A test set uses the values of its training set. By default pixels are left unchanged.
    flip : bool
        In training, mirror each image left to right with probability 1/2.
    crop : int
        In training, shift each image by up to `crop` pixels along each axis. Pixels from outside the image
        are 0 after normalisation. Target maps would not move along: they allow neither `flip` nor `crop`.
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
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
        flip: bool = False,
        crop: int = 0,
        white: float | None = None,
        name: str = "data set",
    ) -> None:
        self.name = name
        self.images = _checked_images(images, name)
        self.labels = _checked_labels(labels, len(self.images), name)
        self.names: tuple[str, ...] | None = None
        if classes is not None and not is_whole(classes):
            self.names = _checked_names(classes, name)
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
        self.mean = self._per_channel("mean", mean)
        self.std = self._per_channel("std", std)
        if (self.std <= 0).any():
            raise DataError(f"{name}: std must be positive, got {std!r}", "use 1 for a constant channel")
        if not 0 <= crop < min(self.image_shape[1:]):
            raise DataError(
                f"{name}: crop={crop} does not fit images of shape {self.image_shape}",
                "crop, the largest shift in pixels, must be smaller than height and width",
            )
        if (flip or crop) and self.labels.shape[2:] not in ((), (1, 1)):
            raise DataError(
                f"{name}: flip and crop move the images, but not their targets {self.labels.shape[1:]}",
                "leave them out, and augment images and targets together before",
            )
        self.flip, self.crop = bool(flip), int(crop)
        if white is not None and not (is_real(white) and white > 0):
            raise DataError(f"{name}: white must be a number above 0, got {white!r}", "255 for bytes")
        self.white = white if white is not None or self.images.dtype != np.uint8 else 255.0

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        images = f"{len(self)} images {self.image_shape} {self.images.dtype}"
        what = f"targets {self.labels.shape[1:]}" if self.classes is None else f"{self.classes} classes"
        return f"Dataset({self.name!r}, {images}, {what})"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        _, c, h, w = self.images.shape
        return c, h, w

    def normalize(self, images: ArrayLike) -> NDArray[np.float32]:
        """``(images - mean) / std`` in float32, for images ``(N, C, H, W)`` in units of the stored pixel."""
        column = (slice(None), None, None)
        return (np.asarray(images, np.float32) - self.mean[column]) / self.std[column]

    def _per_channel(self, setting: str, value: ArrayLike) -> NDArray[np.float32]:
        values, channels = np.asarray(value, np.float32), self.image_shape[0]
        if values.shape not in ((), (1,), (channels,)) or not np.isfinite(values).all():
            raise DataError(
                f"{self.name}: {setting}={value!r} does not fit images of {channels} channel(s)",
                "give one finite number, or one per channel",
            )
        return np.broadcast_to(values, channels).copy()


def _checked_images(images: ArrayLike, name: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    array = np.asarray(images)
    if array.size == 0:
        raise DataError(
            f"{name}: the data set is empty: images have shape {array.shape}", "give at least one image"
        )
    if array.dtype.kind not in "iuf" or array.ndim not in (3, 4):
        raise DataError(
            f"{name}: images must be numbers (N, C, H, W) or (N, H, W), got {array.dtype} {array.shape}",
            "channels come before height and width",
        )
    if array.ndim == 3:
        array = array[:, np.newaxis]
    return np.ascontiguousarray(array) if array.dtype == np.uint8 else _finite(array, "data", name)


def _checked_names(classes: Any, name: str) -> tuple[str, ...]:
    """Class names, one each."""
    names = tuple(classes) if isinstance(classes, Iterable) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(one, str) and one.strip() for one in names):
        hint = 'classes=10 or classes=("cat", "dog")'
        raise DataError(f"{name}: classes must be a number or names, got {classes!r:.60}", hint)
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise DataError(f"{name}: two classes are called {twice!r}", "give each a name of its own")
    return names


def _checked_labels(labels: ArrayLike, images: int, name: str) -> NDArray[Any]:
    """Class numbers (N,), or targets (N, K, P, Q)."""
    array = np.asarray(labels)
    check_counts(images, len(array) if array.ndim else 0, name)
    if array.dtype.kind not in "iuf" or array.ndim > 4 or array.size == 0:
        raise DataError(
            f"{name}: labels must be numbers, (N,) or (N, K, P, Q), got {array.dtype} {array.shape}",
            "class numbers or targets, for example labels.astype(int)",
        )
    whole = array.dtype.kind in "iu"
    if not (whole and array.ndim == 1):
        maps = array[:, np.newaxis] if array.ndim == 3 else array
        array = maps.reshape(*maps.shape, *(1,) * (4 - maps.ndim))
    return np.ascontiguousarray(array, np.int64) if whole else _finite(array, "targets", name)


def _finite(array: NDArray[Any], what: str, name: str) -> NDArray[np.float32]:
    """An array (N, C, H, W) in float32, in which it must be finite."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is reported below
        array = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        n, c, h, w = (int(i) for i in np.unravel_index(finite.argmin(), finite.shape))
        kind = "NaN" if np.isnan(array[n, c, h, w]) else "infinity"
        raise DataError(
            f"{name}: {kind} in the {what}: image {n}, channel {c}, row {h}, column {w}",
            "remove such images, or repair them with np.nan_to_num",
        )
    return array


def check_counts(images: int, labels: int, where: str) -> None:
    """Raise DataError unless there is one label for each image."""
    if images != labels:
        raise DataError(f"{where}: {images} images but {labels} labels", "each image needs one")


def check_labels(labels: NDArray[np.integer], classes: int, where: str, least: int = 0) -> None:
    """Raise DataError for the first label outside ``least .. classes-1``."""
    bad = np.argwhere((labels < least) | (labels >= classes))
    if bad.size:
        at = tuple(int(i) for i in bad[0])
        raise DataError(
            f"{where}: label {labels[at]} of image {at[0]} is out of range for {classes} classes",
            f"labels run from 0 to {classes - 1}" + (", and -1 is ignored" if least < 0 else ""),
        )
