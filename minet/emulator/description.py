"""What the compiler says of a kernel's parameters and a file's variables: `kernels/emulator_signature.h`."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

OTHER, BOOL, SIGNED, UNSIGNED, FLOAT, HALF, BFLOAT, POINTER, VOID = range(9)
LETTERS = {BOOL: "?", SIGNED: "i", UNSIGNED: "u", FLOAT: "f", HALF: "f", BFLOAT: "u"}


class Type(ctypes.Structure):
    """A type: `lanes` numbers of a kind, such as float4; or a pointer, or any other."""

    _fields_ = (
        ("size", ctypes.c_uint), ("align", ctypes.c_uint), ("kind", ctypes.c_uint), ("lanes", ctypes.c_uint),
        ("constant", ctypes.c_uint), ("shown", ctypes.c_char_p),
    )  # fmt: skip

    @property
    def name(self) -> str:
        found = re.search(r"T = (.*?)\]$", (self.shown or b"").decode())
        text = found[1] if found else "?"
        return re.sub(r"\b__restrict__\b", "", text).strip()

    @property
    def dtype(self) -> np.dtype | None:
        """The NumPy type of its numbers; of a bfloat16, which NumPy does not have, its bits'."""
        letter = LETTERS.get(self.kind)
        if letter is None or self.size % self.lanes:
            return None
        size = self.size // self.lanes
        if letter == "f" and size > 8:
            return np.dtype(np.longdouble)
        return np.dtype(letter if letter == "?" else f"{letter}{size}")


class Global(ctypes.Structure):
    """A ``__device__`` or ``__constant__`` variable."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("at", ctypes.c_void_p), ("size", ctypes.c_uint64), ("element", Type),
        ("rank", ctypes.c_uint), ("extents", ctypes.c_uint64 * 8),
    )  # fmt: skip

    def array(self) -> np.ndarray:
        """Its memory, as an array that shares it; of a struct, its bytes."""
        shape = [*self.extents[: self.rank]]
        kind: Any = self.element.dtype
        if kind is None:
            kind = np.dtype(f"V{self.element.size}") if self.element.kind != POINTER else np.dtype("u8")
        elif self.element.lanes > 1:
            shape.append(self.element.lanes)
        memory = (ctypes.c_uint8 * self.size).from_address(self.at)
        array = np.frombuffer(memory, np.uint8).view(kind).reshape(shape)
        array.flags.writeable = not self.element.constant
        return array

    @property
    def length(self) -> int:
        return int(self.size)

    def content(self) -> bytes:
        return ctypes.string_at(self.at, self.size)

    def put(self, content: bytes) -> None:
        """Write to it; a const variable, which may lie where nothing can be written, is the same already."""
        if content != self.content():
            ctypes.memmove(self.at, content, self.size)


class Chain(ctypes.Structure):
    """A parameter as the compiler gives it: its type, what that points to, what that points to."""

    _fields_ = (("chain", Type * 3),)


@dataclass(frozen=True, repr=False)
class Parameter:
    """A kernel's parameter.

    Attributes
    ----------
    name : str
        As the source has it, or "argument 3" if it has none.
    type, pointee, beyond : Type
        Its type; what it points to, and what that points to, or the same again.
    """

    name: str
    type: Type
    pointee: Type
    beyond: Type

    @property
    def pointer(self) -> bool:
        return bool(self.type.kind == POINTER)

    @property
    def writes(self) -> bool:
        """Whether a kernel may write to what it points to."""
        return not self.pointee.constant

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if "(*)" in self.type.name:
            return self.type.name.replace("(*)", f"(*{self.name})")
        return f"{self.type.name} {self.name}".replace("* ", "*").replace("*", " *").replace("  ", " ")


def parameters(module: Any, names: list[str]) -> list[Parameter]:
    """The parameters of a module's kernel."""
    module.emu_parameters.restype = ctypes.POINTER(Chain)
    count = ctypes.c_uint()
    found = module.emu_parameters(ctypes.byref(count))
    if len(names) != count.value:
        names = [""] * count.value
    return [
        Parameter(name or f"argument {i + 1}", *(found[i].chain[j] for j in range(3)))
        for i, name in enumerate(names)
    ]


def variables(module: Any) -> dict[str, Global]:
    """The variables of a module, by their names."""
    module.emu_globals.restype = ctypes.POINTER(Global)
    count = ctypes.c_uint()
    found = module.emu_globals(ctypes.byref(count))
    return {(found[i].name or b"").decode(): found[i] for i in range(count.value)}
