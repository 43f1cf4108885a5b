"""How images lie in memory: tensors (N, C, H, W) in PyTorch, in minet's layers arrays (C, H, W, N)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from minet.backends import Backend
from minet.backends.gpu import GPU
from minet.backends.launcher import BLOCKS
from minet.core.memory import aligned

PLAIN = (torch.Tensor, torch.nn.Parameter)  # not what stands for one while a compiler traces
LARGE = 1 << 20  # elements, four megabytes of float32
SIDE = 32  # of a block's square, as in kernels/layout.cu
NCHW, NHWC, CHWN = "nchw", "nhwc", "chwn"  # the last axis is the innermost


def lies(x: torch.Tensor) -> bool:
    """Whether an image tensor (N, C, H, W) lies in memory as minet's (C, H, W, N)."""
    return x.permute(1, 2, 3, 0).is_contiguous()


def form_of(x: torch.Tensor) -> str:
    """The layout of an image tensor; that of a strided one is taken to be NCHW."""
    if x.is_contiguous() or x.dim() != 4:
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


def native(t: torch.Tensor) -> np.ndarray:
    """The array in a tensor's memory, on the host or on a card."""
    if t.device.type == "cuda":
        from minet.torch.card import native

        return native(t)
    return t.detach().numpy()


def array(x: torch.Tensor) -> np.ndarray:
    """The array (C, H, W, N) of a tensor that lies like one."""
    found = native(x.detach().permute(1, 2, 3, 0))
    return found.reshape(-1).reshape(found.shape)  # with the usual strides where a size is 1


def lay(be: Backend, x: torch.Tensor, out: np.ndarray) -> None:
    """Write an image tensor to an array (C, H, W, N)."""
    if not isinstance(be, GPU):
        from minet.loops import layout

        layout.lay(native(x), out)
        return
    C, H, W, N = out.shape
    if form_of(x) == NHWC:
        _transpose(be, x, out, (N, C, H * W), (H * W * C, C), (H * W * N, N))
    else:
        _transpose(be, x.contiguous(), out, (N, C * H * W, 1), (C * H * W, 0), (N, 0))


def lift(be: Backend, a: np.ndarray, out: torch.Tensor) -> None:
    """Write an array (C, H, W, N) to an image tensor that lies as `empty` makes one."""
    if not isinstance(be, GPU):
        from minet.loops import layout

        layout.lift(a, native(out))
        return
    C, H, W, N = a.shape
    if out.is_contiguous():
        _transpose(be, a, out, (C * H * W, N, 1), (N, 0), (C * H * W, 0))
    else:
        _transpose(be, a, out, (C, N, H * W), (H * W * N, N), (H * W * C, C))


def _transpose(be: GPU, x: Any, y: Any, sizes: Any, x_steps: Any, y_steps: Any) -> None:
    """Call the kernel: sizes are (rows, columns, planes), steps those from row to row and plane to plane."""
    x, y = (_flat(native(v) if isinstance(v, torch.Tensor) else v) for v in (x, y))
    rows, columns, planes = sizes
    squares = -(-rows // SIDE) * -(-columns // SIDE) * planes
    values = {"x": x, "y": y, "rows": rows, "columns": columns, "planes": planes}
    values |= dict(zip(("x_row", "x_plane", "y_column", "y_plane"), (*x_steps, *y_steps), strict=True))
    grid, block = (min(squares, BLOCKS), 1, 1), (SIDE, 8, 1)
    be.call_own("layout", "transpose", values, grid=grid, block=block)


def _flat(a: np.ndarray) -> np.ndarray:
    """All elements of an array without gaps, in the order of memory."""
    return a.transpose(sorted(range(a.ndim), key=lambda i: -a.strides[i])).reshape(-1)
