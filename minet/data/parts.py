"""Parts of a data set: which images an index means, and how a set is split in two."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minet.core.settings import is_real, is_whole
from minet.data.errors import DataError

WORD = 2**64 - 1


def chosen(index: Any, images: int, name: str) -> tuple[slice | NDArray[np.int64], str]:
    """What an index means in a set of so many images, as NumPy takes it, and what such a part is called.

    Parameters
    ----------
    index : slice, or array_like of int or bool

    Raises
    ------
    DataError
        If it means no image, or one that is not there.
    """
    if isinstance(index, slice):
        try:
            first, last, step = index.indices(images)
        except TypeError:
            raise DataError(f"{name}: cannot take the images {index}", "data[10:50]") from None
        if not range(first, last, step):
            raise DataError(f"{name}: {_text(index)} holds none of its {images} images", "data[10:50]")
        return index, _text(index)
    array = np.asarray(index)
    if array.ndim == 1 and array.dtype == bool and len(array) == images:
        array = np.flatnonzero(array)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{name}: cannot take the images {index!r:.60}",
            "data[10:50], data[[3, 1, 4]] or data[labels == 2]",
        )
    if not array.size:
        raise DataError(f"{name}: none of its {images} images is chosen", "take at least one")
    if (outside := array[(array < -images) | (array >= images)]).size:
        raise DataError(f"{name}: there is no image {outside[0]}", f"it has {images}, from 0 to {images - 1}")
    return array.astype(np.int64), f"[{len(array)} of {images}]"


def _text(part: slice) -> str:
    """A slice as it is written."""
    first, last, step = ("" if one is None else str(one) for one in (part.start, part.stop, part.step))
    return f"[{first}:{last}{step and ':' + step}]"


def divided(
    share: float, labels: NDArray[Any], seed: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images of two parts, each in the order of the set.

    The first has this share of the images or, if it is a whole number, so many. Class numbers are spread
    evenly: each part has its share of every class, to within one image.

    Raises
    ------
    DataError
        If one of the parts would be empty.
    """
    images = len(labels)
    whole = is_whole(share)
    if not is_real(share) or not (whole or 0 < share < 1):
        raise DataError(f"{name}: cannot split at {share!r}", "split(0.9) or split(50_000)")
    if not is_whole(seed):
        raise DataError(f"{name}: seed must be a whole number, got {seed!r}")
    count = int(share) if whole else round(share * images)
    if not 0 < count < images:
        raise DataError(f"{name}: split({share!r}) of {images} images leaves a part empty", "split(0.5)")
    words = np.random.Philox(key=int(seed) & WORD).random_raw(images)  # numbered by the image, as for batches
    classes = labels if labels.ndim == 1 else np.zeros(images, np.int64)
    order = np.lexsort((words, classes))  # class by class, shuffled in each
    _, sizes = np.unique(classes, return_counts=True)
    # Of each class the whole part of its share, then one more of those that lose most by that.
    exact = sizes * (count / images)
    takes = np.floor(exact).astype(np.int64)
    most = np.argsort(takes - exact, kind="stable")
    takes[most[: count - takes.sum()]] += 1
    ends = np.cumsum(sizes)
    first = np.concatenate(
        [order[end - size : end - size + n] for end, size, n in zip(ends, sizes, takes, strict=True)]
    )
    inside = np.zeros(images, bool)
    inside[first] = True
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def middle(images: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """The middle of images (..., H, W), of this height and width: a view, or the images themselves."""
    top, left = ((have - want) // 2 for have, want in zip(images.shape[-2:], size, strict=True))
    if top < 0 or left < 0:
        return images  # which whoever computes with them refuses by their shape
    return images[..., top : top + size[0], left : left + size[1]]
