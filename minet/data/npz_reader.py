"""Arrays of an .npz file from anywhere: nothing is unpickled, and headers are not believed."""

from __future__ import annotations

import contextlib
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from minet.core.naming import relative
from minet.data.errors import DataError
from minet.data.progress import BYTES, reading
from minet.data.readers import may_not

DEFLATE = 1032  # the most that a byte may unpack to
CHUNK = 1 << 20
DAMAGED = "the file is damaged, or was not written by numpy.savez"


class Npz:
    """An open .npz file.

    Attributes
    ----------
    names : list of str
    """

    def __init__(self, file: Path) -> None:
        self.file, self.shown = file, relative(file)
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Npz:
        with self._told():
            self.size = self.file.stat().st_size
            self.archive = self.stack.enter_context(zipfile.ZipFile(self.file))
        inside = self.archive.namelist()
        self.names = [name.removesuffix(".npy") for name in inside if name.endswith(".npy")]
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def read(self, name: str) -> NDArray[Any]:
        """Read one of the arrays.

        Raises
        ------
        DataError
            If it is damaged, holds anything but numbers, or its header says more than the file can hold.
        """
        where = f"{self.shown}: {name}"
        with self._told(name):
            entry = self.archive.getinfo(f"{name}.npy")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
                raise DataError(f"{where} is packed in a way that numpy.savez never uses", DAMAGED)
            with self.archive.open(entry) as file:
                shape, fortran, kind = _header(file, where)
                size = math.prod(shape) * kind.itemsize
                ratio = DEFLATE if entry.compress_type == zipfile.ZIP_DEFLATED else 1
                there = min(entry.file_size, ratio * min(entry.compress_size, self.size)) - file.tell()
                if size > there:
                    raise DataError(
                        f"{where}: {shape} {kind} takes {size:,} bytes, {max(there, 0):,} are there", DAMAGED
                    )
                flat = _filled(file, size, f"{self.file.name}: {name}", where)
        array = flat.view(kind).astype(kind.newbyteorder("="), copy=False)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)

    @contextlib.contextmanager
    def _told(self, name: str = "") -> Iterator[None]:
        """What goes wrong as the file is read is a DataError."""
        where = f"{self.shown}: {name}" if name else self.shown
        try:
            yield
        except PermissionError as error:
            raise may_not(self.file, error) from error
        except zipfile.BadZipFile as error:
            what = "is damaged" if name else "is not an .npz file"
            raise DataError(f"{where} {what}: {error}", DAMAGED) from error
        except IsADirectoryError:
            raise DataError(f"{where}: is a folder, not an .npz file") from None
        except (
            OSError,
            EOFError,
            zlib.error,
            RuntimeError,
            NotImplementedError,
            struct.error,
            ValueError,
        ) as error:
            raise DataError(f"{where} cannot be read: {error}", DAMAGED) from error


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the axes are in Fortran's order, and dtype: of plain numbers only."""
    try:
        version = np.lib.format.read_magic(file)
        of_version = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, kind = of_version[version](file)
    except (zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # whatever NumPy meets in a damaged header
        raise DataError(
            f"{where} is not an array: {str(error)[:200] or type(error).__name__}", DAMAGED
        ) from error
    if kind.hasobject:
        raise DataError(
            f"{where} holds Python objects, which are pickled, and nothing is unpickled here",
            "save it again as numbers: np.savez(file, x=x.astype('uint8'))",
        )
    if kind.kind not in "biuf" or any(one < 0 for one in shape):
        raise DataError(f"{where} holds {kind} {shape}, not numbers")
    return shape, fortran, kind


def _filled(file: IO[bytes], size: int, what: str, where: str) -> NDArray[np.uint8]:
    """So many bytes, which are known to be no more than the file can hold."""
    try:
        flat = np.empty(size, np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{where}: {size:,} bytes do not fit into memory", "read a part with np.load"
        ) from error
    done = 0
    with reading(what, size, BYTES) as show:
        while done < size and (part := file.read(min(CHUNK, size - done))):
            flat[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
            show(len(part))
    if done < size:
        raise DataError(f"{where} is cut short after {done:,} of {size:,} bytes", DAMAGED)
    if file.read(1):  # and reaches the end, where the checksum is compared
        raise DataError(f"{where} has more bytes than its shape takes", DAMAGED)
    return flat
