"""Readers for two file formats: MNIST's IDX, and CIFAR-10's binary records."""

from __future__ import annotations

import contextlib
import gzip
import math
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from minet.data.checks import check_counts, check_labels
from minet.data.errors import DataError
from minet.data.progress import BYTES, reading

Bytes = NDArray[np.uint8]

_FETCH_AGAIN = "the file is damaged or incomplete: delete it and fetch it again"
_IDX_TYPES = {
    8: ("u1", "bytes"), 9: ("i1", "signed bytes"), 11: (">i2", "int16"), 12: (">i4", "int32"),
    13: (">f4", "float32"), 14: (">f8", "float64"),
}  # fmt: skip
_CIFAR10_SHAPE = (3, 32, 32)
_RECORD = 1 + math.prod(_CIFAR10_SHAPE)
CIFAR10_MOST = 10_000 * _RECORD  # bytes in a file; a small gzip file may unpack to any size
_CHUNK = 1 << 20


def read_idx(path: Path, ndim: int | None = None) -> NDArray[Any]:
    """Read an array from an IDX file, gzipped or not: of bytes with `ndim` axes or, with None, any.

    The format: two zero bytes, the element type (8 for unsigned bytes), the number of axes, the length of
    each axis as a big-endian 32-bit number, then the elements in C order, big-endian too. Source: Y. LeCun,
    C. Cortes and C. Burges, "The MNIST database of handwritten digits".

    Raises
    ------
    DataError
        If the file cannot be read, is in another format, or is truncated, too long or empty. No more is
        read, and no more memory taken, than the header says and the file holds.
    """
    with _opened(path) as file:
        magic = bytes(_read(file, 4))
        _check_magic(path, magic, ndim)
        kind, start = np.dtype(_IDX_TYPES[magic[2]][0]), 4 + 4 * magic[3]
        raw = bytearray(magic) + _read(file, start - 4)
        shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
        size = start + math.prod(shape) * kind.itemsize
        raw += _read(file, size + 1 - len(raw), path.name)
    if len(raw) != size:
        found = "more" if len(raw) > size else len(raw)
        raise DataError(f"{path}: shape {shape} takes {size} bytes, found {found}", _FETCH_AGAIN)
    if 0 in shape:
        raise DataError(f"{path}: the data set is empty: its shape is {shape}", _FETCH_AGAIN)
    return np.frombuffer(raw, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="), copy=False)


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


def _check_magic(path: Path, found: bytes, ndim: int | None) -> None:
    whole = len(found) == 4 and found[:2] == b"\0\0" and found[2] in _IDX_TYPES and found[3] > 0
    if whole and ndim is None:
        return
    if ndim is None:
        raise DataError(
            f"{path}: is not an IDX file: it begins with {found.hex() or 'nothing'}",
            "one begins with two zeros, the numbers' type (8 to 14) and how many axes there are",
        )
    magic = bytes((0, 0, 8, ndim))
    if found == magic:
        return
    kind = _IDX_TYPES[found[2]][1] if whole and found[3:] == magic[3:] else None
    raise DataError(
        f"{path}: an IDX file of bytes with {ndim} axes begins with {magic.hex()}, "
        f"this one with {found.hex() or 'nothing'}" + (f": its numbers are {kind}" if kind else ""),
        "minet.data.idx reads it"
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


def _read(file: BinaryIO, most: int, what: str = "") -> bytearray:
    """Read up to so many bytes, in parts: what a damaged header promises need not be there."""
    raw = bytearray()
    with reading(what, most, BYTES) as show:
        while len(raw) < most and (part := file.read(min(_CHUNK, most - len(raw)))):
            raw += part
            show(len(part))
    return raw
