"""The custom operators ``minet::fprop`` and ``minet::bprop``: functions of tensors alone, without state.

What draws random numbers has a pair of its own, ``minet::fprop_drawn`` and ``minet::bprop_drawn``, which
``torch.compile`` leaves out of its CUDA graphs: a graph would replay one number for good.

fprop returns y, and `kept`, the bytes that bprop needs: running statistics, the layers' declared state, and x
as (C, H, W, N) where it did not lie so. What is drawn depends on `draw` alone, so that a recomputation, as in
checkpointing, draws the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minet.core.errors import MinetError
from minet.core.layer import Shape
from minet.core.memory import carve, padded_nbytes
from minet.torch import layout as layouts
from minet.torch.program import Program, borrowed
from minet.torch.spec import Spec, on, spec_of


def _fprop(
    x: Tensor,
    params: list[Tensor],
    running: list[Tensor],
    draw: Tensor | None,
    train: bool,
    layout: str,
    handle: str,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """y, `kept`, and in training the new running statistics, of images x (N, C, H, W).

    Parameters
    ----------
    params, running : list of Tensor
        In forward order of the layers.
    draw : Tensor, optional
        A whole number that random draws depend on; 0 if None.
    layout : {"nchw", "nhwc", "chwn"}
        Of y.
    handle : str
        Of the `Spec`.
    """
    spec = spec_of(handle)
    with on(x), spec.program(spec.check(x, params), x) as program:
        y, kept = _made(spec, program, x, params, layout)
        be, N = program.be, x.shape[0]
        news = [value.clone() for value in running] if train else []
        if not N:
            return y, kept, news
        in_place = layouts.lies(y)
        room = 0 if in_place else padded_nbytes((*program.out_shape, N), be.dtype)
        bytes_kept = layouts.native(kept)
        if layouts.lies(x):
            x_array = layouts.array(x)
        else:
            x_array = _held_x(program, bytes_kept, N)
            layouts.lay(be, x, x_array)
            be.fill(bytes_kept[program.fixed + N * program.each + x_array.nbytes :], 0)
        program.start(N, [layouts.native(value) for value in running], bytes_kept)
        with borrowed(be, room + program.scratch_size(N)) as buffer:
            program.bind(N, _arrays(params), [], bytes_kept, buffer[room:])
            y_array = layouts.array(y) if in_place else _carved(program, buffer, program.out_shape, N)
            program.fprop(x_array, y_array, train, 0 if draw is None else int(draw))
            if not in_place:
                layouts.lift(be, y_array, y)
        for new, place in zip(news, program.running, strict=False):
            be.copy(place.array(bytes_kept, N, be.dtype), layouts.native(new))
    return y, kept, news


def _fprop_fake(
    x: Tensor,
    params: list[Tensor],
    running: list[Tensor],
    draw: Tensor | None,
    train: bool,
    layout: str,
    handle: str,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    spec = spec_of(handle, compiled=True)
    with spec.program(spec.check(x, params), x) as program:
        y, kept = _made(spec, program, x, params, layout)
    return y, kept, [torch.empty_like(value) for value in running] if train else []


def _made(
    spec: Spec, program: Program, x: Tensor, params: list[Tensor], layout: str
) -> tuple[Tensor, Tensor]:
    """The results of an fprop, uninitialised."""
    spec.check_params(program, params)
    N = x.shape[0]
    size = program.fixed + N * program.each
    if not layouts.lies(x):
        size = size + N * _x_bytes(program)
    y = layouts.empty(x, (N, *program.out_shape), layout)
    return y, layouts.fresh(x, (size,), torch.uint8)


def _bprop(
    x: Tensor | None,
    dy: Tensor,
    params: list[Tensor],
    draw: Tensor | None,
    kept: Tensor,
    in_shape: list[int],
    wants_dx: bool,
    train: bool,
    layout: str,
    handle: str,
) -> tuple[Tensor, list[Tensor]]:
    """dx, and the gradients of the parameters, from dy and what fprop kept.

    Parameters
    ----------
    x : Tensor, optional
        As fprop had it, if it lay as (C, H, W, N); else `kept` holds it.
    in_shape : list of int
        (C, H, W)
    wants_dx : bool
        If not, dx is empty and not computed.
    layout : {"nchw", "nhwc", "chwn"}
        Of dx.
    """
    spec, N = spec_of(handle), dy.shape[0]
    dx, grads = _deltas(dy, params, in_shape, wants_dx, layout)
    if not N:
        return dx, grads
    with on(dy), spec.program(tuple(in_shape), dy) as program:
        kept_bytes, be, dtype = layouts.native(kept), program.be, program.be.dtype
        x_array = _held_x(program, kept_bytes, N) if x is None else layouts.array(x)
        dy_in_place, dx_in_place = layouts.lies(dy), not wants_dx or layouts.lies(dx)
        room_dy = 0 if dy_in_place else padded_nbytes((*program.out_shape, N), dtype)
        room = room_dy + (0 if dx_in_place else padded_nbytes((*program.in_shape, N), dtype))
        with borrowed(be, room + program.scratch_size(N)) as buffer:
            program.bind(N, _arrays(params), _arrays(grads), kept_bytes, buffer[room:])
            if dy_in_place:
                dy_array = layouts.array(dy)
            else:
                dy_array = _carved(program, buffer, program.out_shape, N)
                layouts.lay(be, dy, dy_array)
            dx_array = None
            if wants_dx:
                dx_array = (
                    layouts.array(dx)
                    if dx_in_place
                    else _carved(program, buffer[room_dy:], program.in_shape, N)
                )
            program.bprop(x_array, dy_array, dx_array, train, 0 if draw is None else int(draw))
            if dx_array is not None and not dx_in_place:
                layouts.lift(be, dx_array, dx)
    return dx, grads


def _bprop_fake(
    x: Tensor | None,
    dy: Tensor,
    params: list[Tensor],
    draw: Tensor | None,
    kept: Tensor,
    in_shape: list[int],
    wants_dx: bool,
    train: bool,
    layout: str,
    handle: str,
) -> tuple[Tensor, list[Tensor]]:
    spec_of(handle, compiled=True)
    return _deltas(dy, params, in_shape, wants_dx, layout)


def _deltas(
    dy: Tensor, params: list[Tensor], in_shape: list[int], wants_dx: bool, layout: str
) -> tuple[Tensor, list[Tensor]]:
    """The results of a bprop: dx uninitialised, gradients of 0."""
    dx = layouts.empty(dy, (dy.shape[0], *in_shape), layout) if wants_dx else dy.new_empty(0)
    return dx, [dy.new_zeros(param.shape) for param in params]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, params, _, draw, train, _, handle = inputs
    lies = layouts.lies(x)
    ctx.save_for_backward(x if lies else None, draw, output[1], *params)
    ctx.in_shape, ctx.form = list(x.shape[1:]), layouts.form_of(x)
    ctx.train, ctx.handle, ctx.running = train, handle, len(inputs[2])
    ctx.spec = spec_of(handle)  # lives as long as the graph, even if its module does not
    ctx.mark_non_differentiable(output[1], *output[2])
    ctx.set_materialize_grads(False)  # or `kept` would get a gradient of as many zeros


def _backward(bprop: Any, ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Any, ...]:
    x, draw, kept, *params = ctx.saved_tensors
    wants_dx, wants_grads = ctx.needs_input_grad[:2]
    if dy is None:
        return None, [None] * len(params), [None] * ctx.running, None, None, None, None
    dx, grads = bprop(x, dy, params, draw, kept, ctx.in_shape, wants_dx, ctx.train, ctx.form, ctx.handle)
    wanted = [grad if wants else None for grad, wants in zip(grads, wants_grads, strict=True)]
    return dx if wants_dx else None, wanted, [None] * ctx.running, None, None, None, None


def _second_backward(ctx: Any, *_: Any) -> Any:
    what = "a gradient that a layer of minet computed cannot be differentiated again"
    raise MinetError(what, "backward without create_graph=True, or detach() the gradient")


def _pair(ending: str, **options: Any) -> tuple[Any, Any]:
    """The operators of both directions."""
    bprop = torch.library.custom_op(f"minet::bprop{ending}", _bprop, mutates_args=(), **options)
    bprop.register_fake(_bprop_fake)
    bprop.register_autograd(_second_backward)
    fprop = torch.library.custom_op(f"minet::fprop{ending}", _fprop, mutates_args=(), **options)
    fprop.register_fake(_fprop_fake)
    fprop.register_autograd(partial(_backward, bprop), setup_context=_setup_context)
    for device in ("cpu", "cuda"):
        fprop.register_autocast(device, torch.float32)
    return fprop, bprop


fprop, bprop = _pair("")
uncaptured = getattr(torch.Tag, "cudagraph_unsafe", None)  # of PyTorch 2.8
fprop_drawn, bprop_drawn = _pair("_drawn", **({"tags": (uncaptured,)} if uncaptured else {}))


def _arrays(tensors: list[Tensor]) -> list[np.ndarray]:
    """Views of the tensors' memory; of parameters with other strides, as in channels_last, copies."""
    return [layouts.native(tensor.detach().contiguous()) for tensor in tensors]


def _x_bytes(program: Program) -> int:
    """Bytes that x takes in `kept`, for each sample."""
    return padded_nbytes(program.in_shape, program.be.dtype)


def _held_x(program: Program, kept: np.ndarray, N: int) -> np.ndarray:
    return _carved(program, kept[program.fixed + N * program.each :], program.in_shape, N)


def _carved(program: Program, buffer: np.ndarray, shape: Shape, N: int) -> np.ndarray:
    """An array (C, H, W, N) at the beginning of a buffer."""
    found: np.ndarray = carve(buffer, 0, (*shape, N), program.be.dtype)[0]
    return found
