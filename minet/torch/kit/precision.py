"""Whether code computes in float64 from end to end, as the gradient check's differences need it."""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch.utils import _pytree as pytree  # pyright: ignore[reportMissingImports]
from torch.utils._python_dispatch import TorchDispatchMode  # pyright: ignore[reportMissingImports]

from minet.torch.kit.rig import Case, Rig

LONG = {torch.float64, torch.complex128}


class Roundings(TorchDispatchMode):
    """Within this context `seen` says whether something made a shorter type of float64: ``x.float()``."""

    seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if any(_inexact(x) and x.dtype not in LONG for x in pytree.tree_leaves(found)):
            self.seen |= any(_inexact(x) and x.dtype in LONG for x in pytree.tree_leaves((args, kwargs)))
        return found


def _inexact(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def precise(case: Case, train: bool = True) -> bool:
    """Whether it computes in float64: nothing that it gives, or has on the way, is rounded to float32."""
    try:
        rig = Rig(case, torch.float64)
        with Roundings() as roundings:
            outputs = rig.forward(train=train)
            rig.backward(outputs)
    except Exception:
        return False
    floats = [y.detach() for y in outputs if y.is_floating_point()]
    if roundings.seen or any(y.dtype != torch.float64 for y in floats):
        return False
    return not floats or any(bool((y != y.float().double()).any()) for y in floats)
