"""What a kernel is called with, checked against what the compiler says and copied to where it may run.

Each array is copied into memory of its own, with room around it: an array that is a slice of a larger one
ends where the slice does, on both sides. Arrays that share memory share it there too.
"""

from __future__ import annotations

import ctypes
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.naming import brief
from minet.emulator import guards
from minet.emulator.description import BFLOAT, BOOL, FLOAT, HALF, OTHER, POINTER, VOID, Parameter, Type

ROOM = 512  # bytes before and after an array
ALIGNED = 256  # as a driver's allocations are
FILLED = 0xA5  # what is in the room


@dataclass
class Given:
    """An array of a call: its name, itself, and whether the kernel may write to it."""

    name: str
    array: np.ndarray
    writes: bool


class Block:
    """A copy of memory that one array takes up, or several that overlap."""

    def __init__(self, arrays: list[Given]) -> None:
        self.arrays, self.guarded = arrays, guards.here()
        self.start = min(one.array.ctypes.data for one in arrays)
        self.length = max(one.array.ctypes.data + one.array.nbytes for one in arrays) - self.start
        self.room = np.full(self.length + 2 * ROOM + ALIGNED, FILLED, np.uint8)
        at = self.room.ctypes.data + ROOM
        self.at = at + (self.offset() - at) % ALIGNED
        guards.guard(self.room.ctypes.data, self.at)
        guards.guard(self.at + self.length, self.room.ctypes.data + self.room.nbytes)
        self.fill()

    def __del__(self) -> None:
        if self.guarded:
            guards.unguard(self.room.ctypes.data, self.room.ctypes.data + self.room.nbytes)

    def offset(self) -> int:
        """Bytes from an aligned address to its start, in the memory that it is a part of."""
        return (self.start - _owner(self.arrays[0].array)) % ALIGNED

    def fill(self) -> None:
        ctypes.memmove(self.at, self.start, self.length)

    def content(self) -> bytes:
        return ctypes.string_at(self.at, self.length)

    def put(self, content: bytes) -> None:
        """Write what a kernel has left in it to the caller's arrays."""
        ctypes.memmove(self.at, content, self.length)
        self.back()

    def place(self, array: np.ndarray) -> int:
        return self.at + array.ctypes.data - self.start

    def changed(self) -> bool:
        return self.content() != ctypes.string_at(self.start, self.length)

    def check(self, kernel: str) -> None:
        """Raise if the kernel wrote around the array, or to one that is read-only, and to which no other may.

        The former is for kernels that are not watched.
        """
        start = self.at - self.room.ctypes.data
        before, after = self.room[:start], self.room[start + self.length :]
        if (before != FILLED).any() or (after != FILLED).any():
            where = "before the start" if (before != FILLED).any() else "past the end"
            names = " and ".join(one.name for one in self.arrays)
            found = f"{kernel} on the emulator: a write {where} of {names}"
            raise MinetError(found, "check(watch=True) finds the line")
        if not self.changed() or any(one.writes for one in self.arrays):
            return
        for one in self.arrays:
            if not one.array.flags.writeable and (
                ctypes.string_at(self.place(one.array), one.array.nbytes) != one.array.tobytes("A")
            ):
                raise MinetError(
                    f"{kernel} on the emulator: it wrote to {one.name}, which is read-only",
                    "its parameter is const: do not cast that away",
                )

    def back(self) -> None:
        """Copy what the kernel wrote back into the caller's arrays."""
        for one in self.arrays if self.changed() else ():
            if one.array.flags.writeable:
                ctypes.memmove(one.array.ctypes.data, self.place(one.array), one.array.nbytes)


def _owner(array: np.ndarray) -> int:
    """The address of the memory that an array is a part of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return int(array.ctypes.data)


class Arguments:
    """The arguments of a call, packed.

    Parameters
    ----------
    kernel : str
        The kernel's name, for messages.
    parameters : list of Parameter
    values : sequence
        A value for each.

    Raises
    ------
    MinetError
        If there are too many or too few, or one does not fit its parameter.
    """

    def __init__(self, kernel: str, parameters: list[Parameter], values: Sequence[Any]) -> None:
        self.kernel, self.parameters, self.given = kernel, parameters, list[Given]()
        self.signature = f"{kernel}({', '.join(map(str, parameters))})"
        if not isinstance(values, (tuple, list)):
            raise MinetError(f"{kernel} takes its arguments as a tuple, got {brief(values)}", self.signature)
        if len(values) != len(parameters):
            found = f"{kernel} takes {len(parameters)} arguments, got {len(values)}"
            raise MinetError(found, self.signature)
        pairs = list(zip(parameters, values, strict=True))
        for parameter, value in pairs:
            self._collect(parameter, value)
        self.blocks = _grouped(self.given)
        self.tables: list[np.ndarray] = []  # of pointers
        self.packed = bytearray()
        for parameter, value in pairs:
            self.packed += b"\0" * (-len(self.packed) % parameter.type.align)
            self.packed += self._packed(parameter, value)

    def own(self) -> list[Block]:
        """The blocks of the caller's arrays, without those of tables of pointers."""
        return self.blocks[: len(self.blocks) - len(self.tables)]

    def refuse(self, parameter: Parameter, value: Any, hint: str = "") -> MinetError:
        given = f"an array of {value.dtype}" if isinstance(value, np.ndarray) and value.ndim else brief(value)
        return MinetError(f"{self.kernel} takes {parameter}, got {given}", hint or self.signature)

    def _collect(self, parameter: Parameter, value: Any) -> None:
        if not parameter.pointer or value is None:
            return
        if parameter.pointee.kind == POINTER:
            if not isinstance(value, (tuple, list)):
                raise self.refuse(parameter, value, "pass a list of arrays: their addresses are its elements")
            for i, one in enumerate(value):
                if one is not None:
                    self._array(parameter, parameter.beyond, one, f"{parameter.name}[{i}]")
        else:
            self._array(parameter, parameter.pointee, value, parameter.name)

    def _array(self, parameter: Parameter, wanted: Type, value: Any, name: str) -> None:
        if not isinstance(value, np.ndarray):
            raise self.refuse(parameter, value, "pass a NumPy array, or None for a null pointer")
        if not _holds(wanted, value.dtype):
            hint = f"an array of {_said(wanted)}"
            if wanted.kind == BFLOAT:
                hint += ", the upper half of a float32: (x.view(np.uint32) >> 16).astype(np.uint16)"
            raise self.refuse(parameter, value, hint)
        if not (value.flags.c_contiguous or value.flags.f_contiguous):
            found = f"{self.kernel}: {name} is not contiguous: its strides are {value.strides}"
            raise MinetError(found, "a kernel gets an address alone: pass np.ascontiguousarray(x)")
        if not wanted.constant and not value.flags.writeable:
            found = f"{self.kernel}: {name} is read-only, but its parameter is {parameter}"
            raise MinetError(found, "pass a copy, or declare the parameter const")
        self.given.append(Given(name, value, not wanted.constant))

    def _packed(self, parameter: Parameter, value: Any) -> bytes:
        if not parameter.pointer:
            return self.scalar(parameter, value)
        if value is None:
            return bytes(8)
        if parameter.pointee.kind == POINTER:
            table = np.array([0 if one is None else self.address(one) for one in value], np.uint64)
            self.tables.append(table)
            self.given.append(Given(parameter.name, table, False))
            self.blocks.append(Block([self.given[-1]]))
            return self.address(table).to_bytes(8, "little")
        return self.address(value).to_bytes(8, "little")

    def address(self, array: np.ndarray) -> int:
        if not array.size:
            return 0
        block = next(b for b in self.blocks if b.start <= array.ctypes.data < b.start + b.length)
        return block.place(array)

    def scalar(self, parameter: Parameter, value: Any) -> bytes:
        """A parameter passed by value, as its bytes."""
        kind = parameter.type
        if isinstance(value, (bytes, bytearray, ctypes.Structure, np.void)):
            content = bytes(memoryview(value).cast("B")) if isinstance(value, ctypes.Structure) else (
                value.tobytes() if isinstance(value, np.void) else bytes(value))  # fmt: skip
            if len(content) != kind.size:
                raise self.refuse(parameter, value, f"{kind.name} has {kind.size} bytes")
            return content
        if kind.lanes > 1:
            values = list(value) if isinstance(value, (tuple, list, np.ndarray)) else []
            if len(values) != kind.lanes:
                raise self.refuse(parameter, value, f"{kind.name} has {kind.lanes} numbers: pass a tuple")
            return b"".join(self._number(parameter, one) for one in values)
        if kind.kind == OTHER:
            raise self.refuse(
                parameter, value, f"a struct is passed as its {kind.size} bytes: np.void, bytes or ctypes"
            )
        return self._number(parameter, value)

    def _number(self, parameter: Parameter, value: Any) -> bytes:
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if not isinstance(value, (numbers.Real, np.bool_)):
            raise self.refuse(parameter, value)
        kind, dtype = parameter.type, parameter.type.dtype
        assert dtype is not None
        if kind.kind == BFLOAT:
            if value != value:
                return b"\xff\x7f"  # rounding a NaN's bits could make them a number
            bits = int(np.float32(value).view(np.uint32))
            return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF).to_bytes(2, "little")
        if kind.kind in (FLOAT, HALF):
            with np.errstate(over="ignore"):
                found = np.asarray(value, np.float64).astype(dtype)
            if np.isinf(found) and abs(float(value)) != np.inf:
                raise self.refuse(parameter, value, f"{kind.name} holds numbers up to {np.finfo(dtype).max}")
            return found.tobytes()
        if kind.kind == BOOL:
            return bytes([bool(value)])
        try:
            whole = int(value)  # type: ignore[arg-type]  # numbers.Real has no __int__, its kinds have
        except (OverflowError, ValueError):  # infinite, or NaN
            whole = None
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if whole is None or whole != value or not least <= whole <= most:
            raise self.refuse(parameter, value, f"{kind.name} holds whole numbers from {least} to {most}")
        return np.asarray(whole, dtype).tobytes()


def _holds(wanted: Type, dtype: np.dtype) -> bool:
    """Whether an array's elements may be what a pointer points to."""
    if wanted.kind == VOID:
        return True
    if wanted.kind == OTHER:  # a struct: the array's own structure, or bytes
        return dtype.itemsize == wanted.size or dtype.itemsize == 1
    own = wanted.dtype
    if own is None:
        return False
    if dtype.kind == "c" and own.kind == "f":
        return wanted.lanes == 2 and dtype.itemsize == wanted.size
    if dtype.kind == "V":
        return dtype.itemsize == wanted.size
    one_byte = own.itemsize == dtype.itemsize == 1 and dtype.kind in "iub"  # char, bool and bytes alike
    return dtype == own or one_byte


def _said(wanted: Type) -> str:
    if wanted.kind == OTHER:
        return f"elements of {wanted.size} bytes"
    return str(wanted.dtype)


def _grouped(arrays: list[Given]) -> list[Block]:
    """Blocks for arrays, one for those that overlap."""
    groups: list[list[Given]] = []
    end = 0
    for one in sorted((a for a in arrays if a.array.size), key=lambda a: a.array.ctypes.data):
        start = one.array.ctypes.data
        if groups and start < end:
            groups[-1].append(one)
        else:
            groups.append([one])
        end = max(end, start + one.array.nbytes)
    return [Block(group) for group in groups]
