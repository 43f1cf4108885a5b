"""Readers for two file formats: MNIST's IDX, and CIFAR-10's binary records."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minet.data.dataset import DataError, check_counts, check_labels

Bytes = NDArray[np.uint8]

_FETCH_AGAIN = "the file is damaged or incomplete: delete it and fetch it again"
_CIFAR10_SHAPE = (3, 32, 32)
_RECORD = 1 + math.prod(_CIFAR10_SHAPE)


def read_idx(path: Path, ndim: int) -> Bytes:
    """Read an array of bytes with `ndim` axes from an IDX file, gzipped or not.

    The format: two zero bytes, the element type (8 for unsigned bytes), the number of axes, the length of
    each axis as a big-endian 32-bit number, then the elements in C order. Source: Y. LeCun, C. Cortes and
    C. Burges, "The MNIST database of handwritten digits".

    Raises
    ------
    DataError
        If the file cannot be read, is in another format, or is truncated, too long or empty.
    """
    raw = _read(path)
    magic = bytes((0, 0, 8, ndim))
    if raw[:4] != magic:
        raise DataError(
            f"{path}: an IDX file of bytes with {ndim} axes begins with {magic.hex()}, "
            f"this one with {raw[:4].hex() or 'nothing'}",
            "images (3 axes) and labels (1 axis) may be swapped; if not, fetch the file again",
        )
    start = 4 + 4 * ndim
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    size = start + math.prod(shape)
    if len(raw) != size:
        raise DataError(f"{path}: shape {shape} takes {size} bytes, found {len(raw)}", _FETCH_AGAIN)
    if 0 in shape:
        raise DataError(f"{path}: the data set is empty: its shape is {shape}", _FETCH_AGAIN)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def read_idx_pair(images: Path, labels: Path, classes: int) -> tuple[Bytes, Bytes]:
    """Read images (N, H, W) and labels (N,) from two IDX files, checked against each other."""
    pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
    check_counts(len(pixels), len(numbers), f"{images} and {labels.name}")
    check_labels(numbers, classes, str(labels))
    return pixels, numbers


def read_cifar10(path: Path) -> tuple[Bytes, Bytes]:
    """Read images (N, 3, 32, 32) and labels (N,) from a file of CIFAR-10's binary version.

    The format: records of 3073 bytes, each a label, then the red, green and blue planes, row by row.
    Source: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.

    Raises
    ------
    DataError
        If the file cannot be read, is empty or truncated, or holds a label above 9.
    """
    raw = _read(path)
    if not raw:
        raise DataError(f"{path}: the data set is empty: the file has no bytes", _FETCH_AGAIN)
    if len(raw) % _RECORD:
        raise DataError(f"{path}: expected a multiple of {_RECORD} bytes, found {len(raw)}", _FETCH_AGAIN)
    records = np.frombuffer(raw, np.uint8).reshape(-1, _RECORD)
    check_labels(records[:, 0], 10, str(path))
    return records[:, 1:].reshape(-1, *_CIFAR10_SHAPE), records[:, 0]


def _read(path: Path) -> bytes:
    raw = b""
    try:
        raw = path.read_bytes()
        # By content, not by name: some browsers unpack a download and keep its name.
        return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except EOFError:
        raise DataError(f"{path}: the gzip data is cut short after {len(raw)} bytes", _FETCH_AGAIN) from None
    except (OSError, zlib.error) as error:  # a wrong gzip checksum is an OSError
        raise DataError(f"{path}: cannot be read: {error}", _FETCH_AGAIN) from error
