"""Dataset: images and labels in memory, checked once, with their normalisation and augmentation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minet.core.errors import MinetError


class DataError(MinetError):
    """A data set, or one of its files, that cannot be used: missing, damaged or inconsistent."""


class Dataset:
    """Labelled images, and how to normalise and augment them.

    Parameters
    ----------
    images : array_like
        ``(N, C, H, W)``, or ``(N, H, W)`` for one channel. Bytes stay bytes; other numbers become float32
        and must be finite. An array that is C-contiguous and of one of these types is not copied.
    labels : array_like of int
        ``(N,)``, each in ``0 .. classes-1``.
    classes : int, optional
        The number of classes; by default the largest label plus one.
    mean, std : float or array_like of float
        Input to the net is ``(image - mean) / std``, in units of the stored pixel: one number, or one per
        channel. A test set uses the values of its training set. By default pixels are left unchanged.
    flip : bool
        In training, mirror each image left to right with probability 1/2.
    crop : int
        In training, shift each image by up to `crop` pixels along each axis. Pixels from outside the image
        are 0 after normalisation.
    name : str
        The name used in error messages.

    Attributes
    ----------
    images : ndarray of uint8 or float32, (N, C, H, W), C-contiguous
    labels : ndarray of int64, (N,)
    mean, std : ndarray of float32, (C,)
    classes, flip, crop, name
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
        classes: int | None = None,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
        flip: bool = False,
        crop: int = 0,
        name: str = "data set",
    ) -> None:
        self.name = name
        self.images = _checked_images(images, name)
        numbers = np.asarray(labels)
        if numbers.ndim != 1 or (numbers.dtype.kind not in "iu" and numbers.size):
            raise DataError(
                f"{name}: labels must be whole numbers of shape (N,), got {numbers.dtype} {numbers.shape}",
                "if each label is a row of scores, use labels.argmax(axis=1)",
            )
        check_counts(len(self.images), len(numbers), name)
        self.classes = int(numbers.max()) + 1 if classes is None else classes
        check_labels(numbers, self.classes, name)
        self.labels: NDArray[np.int64] = np.ascontiguousarray(numbers, np.int64)
        self.mean = self._per_channel("mean", mean)
        self.std = self._per_channel("std", std)
        if (self.std <= 0).any():
            raise DataError(f"{name}: std must be positive, got {std!r}", "use 1 for a constant channel")
        if not 0 <= crop < min(self.image_shape[1:]):
            raise DataError(
                f"{name}: crop={crop} does not fit images of shape {self.image_shape}",
                "crop, the largest shift in pixels, must be smaller than height and width",
            )
        self.flip, self.crop = bool(flip), int(crop)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        images = f"{len(self)} images {self.image_shape} {self.images.dtype}"
        return f"Dataset({self.name!r}, {images}, {self.classes} classes)"

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
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is reported below
        array = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        n, c, h, w = (int(i) for i in np.unravel_index(finite.argmin(), finite.shape))
        kind = "NaN" if np.isnan(array[n, c, h, w]) else "infinity"
        raise DataError(
            f"{name}: {kind} in the data: image {n}, channel {c}, row {h}, column {w}",
            "remove such images, or repair them with np.nan_to_num",
        )
    return array


def check_counts(images: int, labels: int, where: str) -> None:
    """Raise DataError unless there is one label for each image."""
    if images != labels:
        raise DataError(f"{where}: {images} images but {labels} labels", "each image needs one label")


def check_labels(labels: NDArray[np.integer], classes: int, where: str) -> None:
    """Raise DataError for the first label outside ``0 .. classes-1``."""
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        i = int(bad[0])
        raise DataError(
            f"{where}: label {labels[i]} of image {i} is out of range for {classes} classes",
            f"labels run from 0 to {classes - 1}",
        )
