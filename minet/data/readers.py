"""Readers for two file formats: MNIST's IDX, and CIFAR-10's binary records."""

from __future__ import annotations

import contextlib
import gzip
import math
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from minet.data.dataset import DataError, check_counts, check_labels

Bytes = NDArray[np.uint8]

_FETCH_AGAIN = "the file is damaged or incomplete: delete it and fetch it again"
_IDX_TYPES = {8: "bytes", 9: "signed bytes", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_CIFAR10_SHAPE = (3, 32, 32)
_RECORD = 1 + math.prod(_CIFAR10_SHAPE)
CIFAR10_MOST = 10_000 * _RECORD  # bytes in a file; a small gzip file may unpack to any size
_CHUNK = 1 << 20


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
    start = 4 + 4 * ndim
    with _opened(path) as file:
        raw = _read(file, start)
        _check_magic(path, bytes(raw[:4]), ndim)
        shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
        size = start + math.prod(shape)
        raw += _read(file, size + 1 - len(raw))
    if len(raw) != size:
        found = "more" if len(raw) > size else len(raw)
        raise DataError(f"{path}: shape {shape} takes {size} bytes, found {found}", _FETCH_AGAIN)
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
    with _opened(path) as file:
        raw = _read(file, CIFAR10_MOST + 1)
    if not raw:
        raise DataError(f"{path}: the data set is empty: the file has no bytes", _FETCH_AGAIN)
    if len(raw) > CIFAR10_MOST:
        raise DataError(f"{path}: longer than the {CIFAR10_MOST} bytes of a CIFAR-10 file", _FETCH_AGAIN)
    if len(raw) % _RECORD:
        raise DataError(f"{path}: expected a multiple of {_RECORD} bytes, found {len(raw)}", _FETCH_AGAIN)
    records = np.frombuffer(raw, np.uint8).reshape(-1, _RECORD)
    check_labels(records[:, 0], 10, str(path))
    return records[:, 1:].reshape(-1, *_CIFAR10_SHAPE), records[:, 0]


def may_not(path: Path | str, error: OSError) -> DataError:
    """The error for a file or folder without permission."""
    return DataError(f"{path}: cannot be read: {error.strerror}", f"chmod u+rX {shlex.quote(str(path))}")


def _check_magic(path: Path, found: bytes, ndim: int) -> None:
    magic = bytes((0, 0, 8, ndim))
    if found == magic:
        return
    kind = _IDX_TYPES.get(found[2]) if found[:2] == b"\0\0" and found[3:] == magic[3:] else None
    raise DataError(
        f"{path}: an IDX file of bytes with {ndim} axes begins with {magic.hex()}, "
        f"this one with {found.hex() or 'nothing'}" + (f": its numbers are {kind}" if kind else ""),
        "read it with NumPy, and make a minet.data.Dataset of the arrays"
        if kind
        else "images (3 axes) and labels (1 axis) may be swapped; if not, fetch the file again",
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file's content, unpacked if it is gzipped; what goes wrong as it is read is a DataError."""
    try:
        with path.open("rb") as file:
            # By content, not by name: some browsers unpack a download and keep its name.
            zipped = file.peek(2).startswith(b"\x1f\x8b")
            yield gzip.GzipFile(fileobj=file) if zipped else file  # type: ignore[misc]
    except PermissionError as error:
        raise may_not(path, error) from error
    except EOFError:
        size = path.stat().st_size
        raise DataError(f"{path}: the gzip data is cut short after {size} bytes", _FETCH_AGAIN) from None
    except (OSError, zlib.error) as error:  # a wrong gzip checksum is an OSError
        raise DataError(f"{path}: cannot be read: {error}", _FETCH_AGAIN) from error


def _read(file: BinaryIO, most: int) -> bytearray:
    """Read up to so many bytes, in parts: what a damaged header promises need not be there."""
    raw = bytearray()
    while len(raw) < most and (part := file.read(min(_CHUNK, most - len(raw)))):
        raw += part
    return raw
