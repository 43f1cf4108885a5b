"""Checks of what a data set is made of: images, labels, and the names of classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minet.data.errors import DataError


def checked_images(images: ArrayLike, name: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    array = _array(images, "images", name)
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


def _array(values: ArrayLike, what: str, name: str) -> NDArray[Any]:
    if np.ma.is_masked(values):
        hint = f"{what}.filled(0), or leave such images out"
        raise DataError(f"{name}: the {what} are a masked array, whose mask would be lost", hint)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(
            f"{name}: the {what} do not fit into one array: {error}", "bring them to one shape"
        ) from None


def checked_names(classes: Any, name: str) -> tuple[str, ...]:
    """Class names, one each."""
    if isinstance(classes, set | frozenset):
        named = f"classes=({', '.join(sorted(map(repr, classes)))}), in the order of the labels"
        raise DataError(f"{name}: classes is a set, which has no order", named)
    names = tuple(classes) if isinstance(classes, Iterable) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(one, str) and one.strip() for one in names):
        hint = 'classes=10 or classes=("cat", "dog")'
        raise DataError(f"{name}: classes must be a number or names, got {classes!r:.60}", hint)
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise DataError(f"{name}: two classes are called {twice!r}", "give each a name of its own")
    return names


def check_same_names(train: Any, test: Any) -> None:
    """Raise DataError if the classes of a test set have other names, or come in another order."""
    if train.names and test.names and train.names != test.names:
        label, theirs, ours = first_different(train.names, test.names)
        raise DataError(
            f"{test.name}: label {label} is {ours!r}, and {theirs!r} in {train.name}",
            f"classes={train.names!r:.200}",
        )


def first_different(names: Sequence[str], others: Sequence[str]) -> tuple[int, str, str]:
    """The first class that has another name in the other list, and both."""
    pairs = enumerate(zip_longest(names, others, fillvalue="none"))
    return next((i, *pair) for i, pair in pairs if pair[0] != pair[1])


def checked_labels(labels: ArrayLike, images: int, name: str) -> NDArray[Any]:
    """Class numbers (N,), or targets (N, K, P, Q)."""
    array = _array(labels, "labels", name)
    check_counts(images, len(array) if array.ndim else 0, name)
    if array.dtype.kind not in "iuf" or array.ndim > 4 or array.size == 0:
        raise DataError(
            f"{name}: labels must be numbers, (N,) or (N, K, P, Q), got {array.dtype} {array.shape}",
            "labels.astype(int) for classes; labels.astype(float) for yes or no, and other targets",
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
