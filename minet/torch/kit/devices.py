"""The checks of devices, and PyTorch's own of custom ops."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # pyright: ignore[reportMissingImports]

from minet.testing.harness import CheckFailed, Skip
from minet.torch.kit.contract import both, has_backward
from minet.torch.kit.place import is_op, told
from minet.torch.kit.rig import Case, Rig, registry, same, seeded

CHECKS, check = registry()
RTOL = 1e-4  # relative to an array's largest value: sums and exponentials differ between devices


@check
def cuda(case: Case) -> None:
    """On a GPU it computes what it computes on the cpu."""
    if not torch.cuda.is_available():
        _elsewhere(case)
        raise Skip("no CUDA device: torch.cuda.is_available() is False")
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = False
        for train in case.modes:
            here, there = Rig(replace(case, device="cpu")), Rig(replace(case, device="cuda"))
            if here.draws(train):
                continue  # the two devices draw other numbers
            same(both(there, train), both(here, train), "the GPU does not compute what the cpu does", RTOL)
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def _elsewhere(case: Case) -> None:
    """Fail if forward makes a tensor on the cpu whatever the device, as a device that has no values shows."""
    for train in case.modes:
        rig, mode = Rig(case), FakeTensorMode(allow_non_fake_inputs=True)
        x = [_fake(mode, one) for one in rig.x]
        held = rig.now() | (dict(rig.module.named_parameters()) if rig.module is not None else {})
        held = {name: _fake(mode, value) for name, value in held.items()}
        try:
            with mode, seeded():
                if rig.module is None:
                    rig.call(*x)
                else:
                    torch.func.functional_call(rig.module.train(train), held, tuple(x))
        except Exception as error:  # much else does not run without values
            if re.search("two (different )?devices", str(error)):
                cause = "torch.tensor(...), torch.arange(n) and the like in forward need device=x.device"
                raise CheckFailed(f"on another device, {told(error)}", cause, "fprop") from None


def _fake(mode: FakeTensorMode, x: torch.Tensor) -> torch.Tensor:
    return FakeTensor(mode, x.detach().to("meta"), torch.device("cuda:0"))


@check
def opcheck(case: Case) -> None:
    """torch.library.opcheck: schema, autograd, fake tensors, torch.compile."""
    op = case.make()
    if not is_op(op):
        raise Skip("no torch.library.custom_op")
    x = [x.detach().requires_grad_(x.requires_grad and has_backward(op)) for x in Rig(case).x]
    found = torch.library.opcheck(op, tuple(x), raise_exception=False)
    for test, result in found.items():
        if result != "SUCCESS":
            text = " ".join(str(result).split())
            cause = {
                "test_faketensor": "op.register_fake is missing, or gives another shape, type or strides",
                "test_schema": "mutates_args does not name what it writes to, or an output is an input",
            }.get(test, "op.register_autograd, or the fake implementation")
            raise CheckFailed(f"{test}: {text[:240]}", cause, "fprop")
