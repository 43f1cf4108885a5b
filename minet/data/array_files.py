"""Data sets from arrays: NumPy's, those in an IDX pair, and those in an .npz file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minet.core.naming import did_you_mean, relative
from minet.core.settings import is_whole
from minet.data.augment import Augmentation
from minet.data.dataset import Dataset
from minet.data.errors import DataError
from minet.data.npz_reader import Npz
from minet.data.places import located
from minet.data.readers import read_idx

MEAN, STD = 127.5, 63.75  # of bytes: inputs from -2 to 2
PAIRS = {  # what images and labels of a split are called: by Keras, by MedMNIST, and where there is one split
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("X_train", "y_train")),
    "val": (("x_val", "y_val"), ("val_images", "val_labels"), ("X_val", "y_val")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels"), ("X_test", "y_test")),
    None: (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels"), ("data", "target")),
}  # fmt: skip


def arrays(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    channels_last: bool = False,
    classes: int | Sequence[str] | None = None,
    mean: ArrayLike | str | None = None,
    std: ArrayLike | str | None = None,
    flip: bool = False,
    crop: int = 0,
    augment: Sequence[Augmentation] = (),
    white: float | None = None,
    name: str = "arrays",
) -> Dataset:
    """Make a data set of NumPy arrays.

    Parameters
    ----------
    images : array_like
        ``(N, C, H, W)``, or ``(N, H, W)`` for one channel.
    labels : array_like
        As `Dataset` takes them; whole numbers ``(N, 1)``, as Keras and MedMNIST have them, are class numbers.
    channels_last : bool
        Images are ``(N, H, W, C)``.
    classes, flip, crop, augment, white, name
        As in `Dataset`.
    mean, std
        As in `Dataset`. By default 127.5 and 63.75 for bytes, which makes inputs from -2 to 2, and for
        other numbers 0 and 1, which leaves them as they are.

    Raises
    ------
    DataError
        As `Dataset` does.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if channels_last:
        if images.ndim != 4:
            raise DataError(
                f"{name}: channels_last is for images (N, H, W, C), got {images.shape}",
                "leave it out for (N, H, W)",
            )
        images = images.transpose(0, 3, 1, 2)
    if labels.ndim == 2 and labels.shape[1] == 1 and labels.dtype.kind in "iu":
        labels = labels[:, 0]
    in_bytes = images.dtype == np.uint8
    return Dataset(
        images,
        labels,
        classes=classes,
        mean=(MEAN if in_bytes else 0.0) if mean is None else mean,
        std=(STD if in_bytes else 1.0) if std is None else std,
        flip=flip,
        crop=crop,
        augment=augment,
        white=white,
        name=name,
    )


def idx(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    first: int = 0,
    column: int | None = None,
    transpose: bool = False,
    name: str | None = None,
    **settings: Any,
) -> Dataset:
    """Read an IDX pair, gzipped or not: Fashion-MNIST, EMNIST, QMNIST and all others in MNIST's format.

    A name without ``.gz`` finds the gzipped file too; what is not in the current folder is looked for in
    that of ``MINET_DATA``.

    Parameters
    ----------
    images : str or Path
        A file of images ``(N, H, W)`` or ``(N, C, H, W)``.
    labels : str or Path
        A file of labels, as `Dataset` takes them.
    first : int
        The label of the first class: 1 for EMNIST's letters.
    column : int, optional
        Of labels ``(N, K)`` the column that is meant: 0 is the class in QMNIST.
    transpose : bool
        Rows and columns have changed places, as in EMNIST.
    name : str, optional
        By default the images' file name.
    **settings
        As for `arrays`.

    Raises
    ------
    DataError
        If a file cannot be read, is damaged or in another format, or the two do not fit together.
    """
    files = [located(file, ".gz") for file in (images, labels)]
    pixels, numbers = (read_idx(file) for file in files)
    if transpose:
        pixels = pixels.swapaxes(-1, -2)
    shown = relative(files[1])
    if column is not None:
        if numbers.ndim != 2 or not is_whole(column) or not 0 <= column < numbers.shape[1]:
            raise DataError(
                f"{shown}: has no column {column!r}: labels are {numbers.shape}", "leave it out for (N,)"
            )
        numbers = numbers[:, column]
    elif numbers.ndim == 2 and numbers.shape[1] > 1 and numbers.dtype.kind in "iu":
        raise DataError(
            f"{shown}: has labels {numbers.shape}", "column=0 takes the first, which is the class in QMNIST"
        )
    if not is_whole(first):
        raise DataError(f"{shown}: first must be a whole number, got {first!r}", "1 for EMNIST's letters")
    if first and numbers.dtype.kind in "iu":
        numbers = numbers.astype(np.int64) - first
        if (numbers < 0).any():
            raise DataError(
                f"{shown}: holds labels below first={first}", "first is the label of the first class"
            )
    return arrays(pixels, numbers, name=files[0].name if name is None else name, **settings)


def npz(
    path: str | os.PathLike[str],
    split: str | None = None,
    *,
    images: str | None = None,
    labels: str | None = None,
    name: str | None = None,
    **settings: Any,
) -> Dataset:
    """Read a data set from an .npz file, as ``numpy.savez`` and ``savez_compressed`` write it.

    The arrays are found by the names that Keras (``x_train``, ``y_train``) and MedMNIST (``train_images``,
    ``train_labels``) give them, and without a split by ``images`` and ``labels``, ``x`` and ``y``. Nothing
    is unpickled, and no more memory is taken than the file can hold.

    Parameters
    ----------
    path : str or Path
        What is not in the current folder is looked for in that of ``MINET_DATA``.
    split : str, optional
        "train", "val" or "test".
    images, labels : str, optional
        The arrays' names, if they are called otherwise.
    name : str, optional
        By default the file's name and the split.
    **settings
        As for `arrays`.

    Raises
    ------
    DataError
        If the file cannot be read, is damaged, has no such arrays, or holds what is not numbers.
    """
    file = located(path)
    if split is not None and split not in PAIRS:
        raise DataError(
            f"{relative(file)}: there is no split {split!r}", 'the splits are "train", "val" and "test"'
        )
    with Npz(file) as opened:
        names = _named(opened.names, split, images, labels, file)
        pair: list[NDArray[Any]] = [opened.read(one) for one in names]
    shown = " ".join([file.name, *([split] if split else [])])
    return arrays(*pair, name=shown if name is None else name, **settings)


def _named(
    there: Sequence[str], split: str | None, images: str | None, labels: str | None, file: Path
) -> tuple[str, str]:
    """Which of a file's arrays are images and labels."""
    shown, listed = relative(file), ", ".join(there) or "none"
    if split is None and images is None and labels is None:
        splits = [
            name for name in ("train", "val", "test") if any({*pair} <= {*there} for pair in PAIRS[name])
        ]
        if splits and not any({*pair} <= {*there} for pair in PAIRS[None]):
            raise DataError(
                f"{shown}: holds {' and '.join(splits)}, and none was named",
                f'data.npz({shown!r}, "{splits[0]}")',
            )
    found = next((pair for pair in PAIRS[split] if {*pair} <= {*there}), (None, None))
    wanted = (images or found[0], labels or found[1])
    for one, what in zip(wanted, ("images", "labels"), strict=True):
        if one is None:
            of = f" of split {split!r}" if split else ""
            raise DataError(
                f"{shown}: which arrays are {what}{of} is not known; it holds {listed}", f'{what}="..."'
            )
        if one not in there:
            raise DataError(
                f"{shown}: has no array {one!r}; it holds {listed}", did_you_mean(one, list(there))
            )
    return str(wanted[0]), str(wanted[1])
