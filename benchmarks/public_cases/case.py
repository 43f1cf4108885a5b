"""A kernel of a public repository: where it is, how it is launched, and what NumPy says of its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

F, INT, UINT = np.float32, np.int32, np.uint32
COMMITS = {
    "karpathy+llm.c": "f1e2ace651495b74ae22d45d1723443fd00ecd3a",
    "erikwijmans+Pointnet2_PyTorch": "b5ceb6d9ca0467ea34beb81023f96ee82228f626",
    "siboehm+SGEMM_CUDA": "60cba6f9b20a198116c76f18de8047f44df8c8b8",
    "tspeterkim+flash-attention-minimal": "00f8f46712d493665c900c32fa3a261c8ef3e20c",
    "godweiyang+NN-CUDA-Example": "1bc46151d89f5b1455f15dad44b5f5d487af639a",
    "NVIDIA+cuda-samples": "c94ff366aed18c797b8a85dfaac7817b0228b420",
}
Made = tuple[tuple[Any, ...], list[tuple[Any, Any]]]  # arguments; results and what they should be


@dataclass(frozen=True)
class Case:
    """A kernel: its place, its launch, and a function that makes arguments and what is expected."""

    repository: str
    file: str
    name: str
    grid: Any
    block: Any
    make: Callable[[], Made]
    shared: int = 0
    include: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    rtol: float = 1e-4
    atol: float = 1e-5


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(F)


def zeros(*shape: int, kind: Any = F) -> np.ndarray:
    return np.zeros(shape, kind)


def bf16(x: Any) -> np.ndarray:
    """Numbers as bfloat16, in 16 bits each."""
    bits = np.ascontiguousarray(x, F).view(UINT)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


class Wide:
    """A view of bfloat16 results as floats, made when it is read."""

    def __init__(self, bits: np.ndarray) -> None:
        self.bits = bits

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return (self.bits.astype(UINT) << 16).view(F).astype(dtype or F)


def wide(bits: np.ndarray) -> np.ndarray:
    return np.asarray(Wide(bits))
