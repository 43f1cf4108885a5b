"""How images lie in memory: tensors (N, C, H, W) in PyTorch, in minet's layers arrays (C, H, W, N)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from minet.core.memory import aligned

PLAIN = (torch.Tensor, torch.nn.Parameter)  # not what stands for one while a compiler traces
LARGE = 1 << 20  # elements, four megabytes of float32
NCHW, NHWC, CHWN = "nchw", "nhwc", "chwn"  # the last axis is the innermost


def lies(x: torch.Tensor) -> bool:
    """Whether an image tensor (N, C, H, W) lies in memory as minet's (C, H, W, N)."""
    return x.permute(1, 2, 3, 0).is_contiguous()


def form_of(x: torch.Tensor) -> str:
    """The layout of an image tensor; that of a strided one is taken to be NCHW."""
    if x.is_contiguous():
        return NCHW
    if x.is_contiguous(memory_format=torch.channels_last):
        return NHWC
    return CHWN if lies(x) else NCHW


def empty(like: torch.Tensor, shape: tuple[Any, ...], form: str) -> torch.Tensor:
    """An uninitialised tensor of shape (N, C, H, W) in a layout."""
    N, C, H, W = shape
    if form == CHWN:
        return fresh(like, (C, H, W, N)).permute(3, 0, 1, 2)
    if form == NHWC:
        return fresh(like, (N, H, W, C)).permute(0, 3, 1, 2)
    return fresh(like, (N, C, H, W))


def fresh(like: torch.Tensor, shape: tuple[Any, ...], dtype: torch.dtype | None = None) -> torch.Tensor:
    """An uninitialised tensor of that shape.

    A large one is NumPy's, which asks the system for huge pages: for the usual ones, writing to fresh memory
    takes ten times as long as to memory that is there.
    """
    dtype = dtype or like.dtype
    if type(like) not in PLAIN or like.device.type != "cpu" or math.prod(shape) < LARGE:
        return like.new_empty(shape, dtype=dtype)
    return torch.from_numpy(aligned(shape, np.dtype(str(dtype).removeprefix("torch."))))


def array(x: torch.Tensor) -> np.ndarray:
    """The array (C, H, W, N) of a tensor that lies like one."""
    found: np.ndarray = x.detach().permute(1, 2, 3, 0).numpy()
    return found.reshape(-1).reshape(found.shape)  # with the usual strides where a size is 1


def lay(x: torch.Tensor, out: np.ndarray) -> None:
    """Write an image tensor to an array (C, H, W, N)."""
    from minet.loops import layout

    layout.lay(x.detach().numpy(), out)


def lift(a: np.ndarray, out: torch.Tensor) -> None:
    """Write an array (C, H, W, N) to an image tensor."""
    from minet.loops import layout

    layout.lift(a, out.numpy())
