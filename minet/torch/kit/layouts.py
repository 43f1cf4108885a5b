"""The checks of memory: inputs and gradients whose elements do not lie one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from minet.testing.harness import CheckFailed, Skip
from minet.torch.kit.contract import both, has_backward
from minet.torch.kit.place import told
from minet.torch.kit.rig import GRAD_OUTPUT, Case, Rig, named, registry, same

CHECKS, check = registry()
GUARD = 77.0
CAUSE = "it takes memory as contiguous: x.contiguous(), reshape instead of view, or heed x.stride()"


def transposed(x: torch.Tensor) -> torch.Tensor | None:
    """The same values, the last two axes of the memory exchanged."""
    return x.transpose(-1, -2).contiguous().transpose(-1, -2) if x.dim() > 1 else None


def batch_innermost(x: torch.Tensor) -> torch.Tensor | None:
    """The same values, the batch innermost in memory."""
    return x.movedim(0, -1).contiguous().movedim(-1, 0) if x.dim() > 2 else None


def channels_last(x: torch.Tensor) -> torch.Tensor | None:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else None


def every_second(x: torch.Tensor) -> torch.Tensor | None:
    """The same values, with as many others between them."""
    if not x.dim():
        return None
    wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), GUARD)
    wide[..., ::2] = x
    return wide[..., ::2]


STRIDES: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "transposed in memory": transposed,
    "channels last in memory": channels_last,
    "the batch innermost in memory": batch_innermost,
    "every second element of a tensor": every_second,
}


@check
def strides(case: Case) -> None:
    """Inputs and grad_output of any strides give the same as contiguous ones."""
    for train in case.modes:
        if Rig(case).draws(train):
            continue  # PyTorch hands out its draws in the order of memory
        plain = both(Rig(case), train)
        for said, change in STRIDES.items():
            for name, rig, x, dy in _changed(case, train, change):
                _alike(rig, train, x, dy, plain, f"with {name} {said}, ")


@check
def slices(case: Case) -> None:
    """Inputs and grad_output may be slices of larger tensors; nothing outside them is read or written."""
    for train in case.modes:
        plain = both(Rig(case), train)
        for axis in (0, 1):
            around: list[torch.Tensor] = []
            for name, rig, x, dy in _changed(case, train, partial(_part, axis=axis, around=around)):
                _alike(rig, train, x, dy, plain, f"with {name} a slice of a larger tensor, ")
                if not all(bool((edge == edge.new_tensor(GUARD)).all()) for edge in around):  # of bool, True
                    cause = "a loop runs past the end of a slice"
                    raise CheckFailed(f"memory next to {name} was written", cause, "fprop")
                around.clear()


def _part(x: torch.Tensor, axis: int, around: list[torch.Tensor]) -> torch.Tensor | None:
    """The same values as a slice along an axis; what lies around it is added to a list."""
    if x.dim() <= axis:
        return None
    shape, size = [*x.shape], x.shape[axis]
    shape[axis] += 3
    whole = x.new_full(shape, GUARD)
    around += [whole.narrow(axis, 0, 2), whole.narrow(axis, size + 2, 1)]
    inside = whole.narrow(axis, 2, size)
    inside.copy_(x)
    return inside


@check
def expanded(case: Case) -> None:
    """grad_output may have strides of 0: y.sum().backward() gives one."""
    if not has_backward(case.make()):
        return
    for train in case.modes:
        usual, rig, other = (Rig(case) for _ in range(3))
        outputs = rig.forward(train=train)
        ones = [torch.ones_like(d) for d in rig.grad_outputs(outputs)]
        plain = rig.grads(rig.backward(outputs, ones))
        outputs = other.forward(train=train)
        dy = [torch.ones((), dtype=d.dtype, device=d.device).expand(d.shape) for d in ones]
        said = "with grad_output of y.sum(), "
        cause = "backward takes grad_output as contiguous: grad_output.contiguous(), or reshape, not view"
        try:
            got = other.grads(other.backward(outputs, dy))
        except Exception as error:
            raise CheckFailed(f"{said}{told(error)}", cause, "bprop") from error
        sizes = {name: float(np.abs(value).max(initial=0)) for name, value in usual.both(train).items()}
        for name, value in plain.items():  # a gradient of y.sum() may be 0, and rounding all there is
            same({name: got[name]}, {name: value}, cause, None, said, 3e-6 * sizes[name])


def _changed(
    case: Case, train: bool, change: Callable[[torch.Tensor], torch.Tensor | None]
) -> Iterator[tuple[str, Rig, list[torch.Tensor], list[torch.Tensor]]]:
    """Yield each input, and grad_output, changed in memory: name, rig, inputs, gradients of the outputs."""
    if getattr(case.make(), "inplace", False):
        raise Skip("inplace=True: it is meant to write to x")
    count = len(case.inputs)
    for i in range(count + 1):
        rig = Rig(case)
        with torch.no_grad():
            x = rig.copies()
        if i < count:
            leaf = rig.x[i]
            with torch.no_grad():
                other = change(x[i])
            if other is None:
                continue
            rig.x[i] = other.detach().requires_grad_(leaf.requires_grad)
            yield rig.names[i], rig, [x.view_as(x) if j == i else x.clone() for j, x in enumerate(rig.x)], []
        elif has_backward(rig.call):
            dy = rig.grad_outputs(rig.forward(train=train))
            others = [change(d) for d in dy]
            kept = [d if other is None else other for d, other in zip(dy, others, strict=True)]
            if any(other is not None for other in others):
                yield GRAD_OUTPUT, rig, rig.copies(), kept


def _alike(
    rig: Rig, train: bool, x: list[torch.Tensor], dy: list[torch.Tensor], plain: dict[str, np.ndarray],
    said: str,
) -> None:  # fmt: skip
    phase = "bprop" if GRAD_OUTPUT in said else "fprop"
    try:
        outputs = rig.forward(x, train)
        got = named(outputs)
        if has_backward(rig.call):
            got |= rig.grads(rig.backward(outputs, dy or None))
    except Exception as error:
        raise CheckFailed(f"{said}{told(error)}", CAUSE, phase) from error
    same(got, plain, CAUSE, None, said)
