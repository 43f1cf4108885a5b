"""The checks of what a module keeps: its type, its parameters and buffers, copies of it."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from minet.testing.harness import CheckFailed, Skip
from minet.torch.kit.contract import both
from minet.torch.kit.precision import precise
from minet.torch.kit.rig import LARGE, Case, Rig, modules_only, named, registry, same

CHECKS, check = registry()
HOME = "self.register_buffer(name, tensor) or torch.nn.Parameter"


@check
def float32(case: Case) -> None:
    """float32 agrees with float64, so the gradient check's result carries over to training."""
    if not precise(case):
        raise Skip("it does not compute in float64")
    for train in case.modes:
        rig = Rig(case)
        if len(rig.targets()) > LARGE:
            raise Skip("in a net of many parts, kinks turn rounding into other gradients")
        exact = both(Rig(case, torch.float64), train)
        rounded = {n: v.astype(rounded_type(v)) for n, v in exact.items()}
        cause = "a sum, an exponential or another type on the way loses digits in float32"
        same(both(rig, train), rounded, cause, 3e-4, atol=1e-6)


@check
def registered(case: Case) -> None:
    """Tensors, parameters and modules are registered, so that .to() moves and state_dict saves them."""
    modules_only(case, "state")
    made = case.make()
    known = {id(one) for one in (*made.parameters(), *made.buffers(), *made.modules())}
    for path, module in made.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") and name in vars(torch.nn.Module()):
                continue
            for kind, where in _kept(value, f"self.{name}", known):
                at = f"{where} of {path}" if path else where
                hint = {"a module": "torch.nn.ModuleList", "a parameter": "torch.nn.ParameterList"}.get(
                    kind, HOME
                )
                cause = f".to(device) leaves it behind, and state_dict is without it: {hint}"
                raise CheckFailed(f"{at} is {kind} that is not registered", cause, "__init__")


def rounded_type(value: np.ndarray) -> Any:
    return {"float64": np.float32, "complex128": np.complex64}.get(value.dtype.name, value.dtype)


def _kept(value: Any, where: str, known: set[int]) -> Iterator[tuple[str, str]]:
    """Yield what an attribute holds that should be registered: its kind and place."""
    if id(value) in known:
        return
    if isinstance(value, torch.Tensor):
        yield "a parameter" if isinstance(value, torch.nn.Parameter) else "a tensor", where
    elif isinstance(value, torch.nn.Module):
        yield "a module", where
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _kept(item, f"{where}[{i}]", known)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _kept(item, f"{where}[{key!r}]", known)


@check
def saving(case: Case) -> None:
    """state_dict is complete: a new object that loads it from a file computes the same."""
    modules_only(case, "state_dict")
    rig = Rig(case)
    assert rig.module is not None
    rig.forward(train=True)
    rig.restore()
    stored = io.BytesIO()
    torch.save(rig.module.state_dict(), stored)
    stored.seek(0)
    other = Rig(case, seed=1, used=False)
    assert other.module is not None
    other.module.load_state_dict(torch.load(stored))
    other.home = {name: b.clone() for name, b in other.now().items()}
    cause = f"something that it computes with is no parameter and no buffer, or not persistent: {HOME}"
    expected = named(rig.forward(train=False))
    same(named(other.forward(train=False)), expected, cause, 0.0, "after state_dict was loaded, ")


@check
def deepcopy(case: Case) -> None:
    """copy.deepcopy gives an object that computes the same, and shares nothing with the first."""
    modules_only(case, "state")
    rig = Rig(case)
    expected = named(rig.forward(train=False))
    other = copy.deepcopy(rig.module)
    assert other is not None
    _same_output(rig, other, expected, "the copy: ")
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.5)
    got = named(rig.forward(train=False))
    same(got, expected, "the copy shares its parameters", 0.0, "after a change of the copy, ")


@check
def pickled(case: Case) -> None:
    """An object that is pickled and read computes the same."""
    modules_only(case, "state")
    rig = Rig(case)
    try:
        stored = pickle.dumps(rig.module)
    except Exception as error:
        raise Skip(f"it cannot be pickled: {' '.join(str(error).split())[:120]}") from None
    expected = named(rig.forward(train=False))
    _same_output(rig, pickle.loads(stored), expected, "the one read: ")


def _same_output(rig: Rig, other: torch.nn.Module, expected: dict[str, np.ndarray], said: str) -> None:
    mine = rig.module, rig.call, rig.buffers
    rig.module, rig.call = other, other
    rig.buffers = rig.now()
    cause = "__deepcopy__, __getstate__ or a hook leaves something out"
    same(named(rig.forward(train=False)), expected, cause, 0.0, said)
    rig.module, rig.call, rig.buffers = mine
