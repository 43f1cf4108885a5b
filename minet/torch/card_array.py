"""Arrays in a card's memory: NumPy's descriptions of places that only kernels may read."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch

from minet.core.errors import MinetError


class CardArray(np.ndarray):
    """An array on a card: a shape, a dtype, strides and an address, for which NumPy does the arithmetic.

    Slices and views are NumPy's. The elements are out of the host's reach: whatever would compute with them
    is refused, but what goes by their memory alone, as ``np.asarray(array)`` and ``torch.from_numpy(array)``
    do: these must not be read. ``be.get(array)`` has the values.
    """

    __array_ufunc__: Any = None  # no arithmetic

    def __getitem__(self, key: Any) -> Any:
        whole = key if isinstance(key, tuple) else (key,)
        numbers = [i for i in whole if isinstance(i, (int, np.integer))]
        views = all(isinstance(i, (int, np.integer, slice)) or i is None or i is ... for i in whole)
        if len(whole) == len(numbers) == self.ndim or not views:
            _refuse()
        return super().__getitem__(key)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        if not self.flags.c_contiguous and self.size:
            _refuse()  # NumPy would copy
        return super().reshape(*shape, **options)

    def __array_function__(self, *args: Any) -> Any:
        _refuse()

    def __repr__(self) -> str:
        return f"CardArray({self.shape}, {self.dtype}, at {address(self):#x})"

    __str__ = __repr__


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise MinetError("an array on a card was used by host code", "be.get(array) has its values")


DESCRIBING = {"getfield", "reshape", "setflags", "squeeze", "swapaxes", "transpose", "view"}
READING = (
    "__array__", "__bool__", "__complex__", "__copy__", "__deepcopy__", "__dlpack__", "__float__",
    "__index__", "__int__", "__iter__", "__reduce__", "__reduce_ex__", "__setitem__",
)  # fmt: skip
for name, method in vars(np.ndarray).items():
    if name in READING or (callable(method) and name[0] != "_" and name not in DESCRIBING):
        setattr(CardArray, name, _refuse)
CardArray.flat = property(_refuse)  # type: ignore[assignment]


class Memory:
    """What NumPy needs to place an array in a tensor's memory, which it keeps alive."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        kind = np.dtype(str(tensor.dtype).removeprefix("torch."))
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(tensor.shape),
            "typestr": kind.str,
            "data": (tensor.data_ptr(), False),
            "strides": tuple(step * kind.itemsize for step in tensor.stride()),
        }


class Offer:
    """What PyTorch needs to make a tensor of an array, which it keeps alive."""

    def __init__(self, array: CardArray) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "version": 2,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (address(array), False),
            "strides": array.strides,
        }


def native(tensor: torch.Tensor) -> CardArray:
    """The array in a tensor's memory."""
    found: CardArray = np.asarray(Memory(tensor.detach())).view(CardArray)
    return found


def flat_bytes(array: Any) -> Any:
    """An array without gaps as bytes."""
    return array.reshape(-1).view(np.uint8)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])
