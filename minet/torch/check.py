"""The conformance kit for PyTorch: check a module, an autograd Function or a custom op of one's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from minet.core.errors import MinetError
from minet.core.settings import is_whole
from minet.testing.harness import CheckFailed, Skip
from minet.testing.report import Check, Report
from minet.torch.kit import batches, contract, devices, graph, lasting, layouts
from minet.torch.kit.place import gathered, is_op, place, told, writes_to_inputs
from minet.torch.kit.rig import Case, Input, seeded, threads

ROOMS = (contract, graph, layouts, batches, lasting, devices)
CHECKS = {name: function for room in ROOMS for name, function in room.CHECKS.items()}


def check_module(make: Callable[[], Any], *inputs: Input, batch: int = 3, device: str = "cpu") -> Report:
    """Run every check of the kit on a torch module, an autograd Function or a custom op.

    The checks are of what PyTorch's users rely on: gradients are the derivatives, everything is written, any
    strides are read, nothing is drawn or kept that should not be. They do not know the formula.

    Parameters
    ----------
    make : callable
        Returns a new `torch.nn.Module` at each call; or what is called with tensors, such as
        ``lambda: MyFunction.apply``, or an op made by `torch.library.custom_op`.
    *inputs : tuple of int, or Tensor
        The shape of each input without the batch, which comes first: ``(3, 32, 32)``. A tensor is passed as
        it is, whatever the batch: weights, indices.
    batch : int
    device : str
        Where it computes: "cpu" or "cuda".

    Raises
    ------
    MinetError
        If there is nothing to check, or an input is neither a shape nor a tensor.
    """
    if not callable(make) or isinstance(make, torch.nn.Module):
        found = f"check_module needs a function that makes a module, got {' '.join(repr(make).split()):.60}"
        raise MinetError(found, "check_module(lambda: MyModule(), (3, 32, 32))")
    for given in inputs:
        if not is_input(given):
            found = f"an input must be a shape without the batch, or a tensor, got {given!r:.60}"
            raise MinetError(found, "check_module(lambda: MyModule(), (3, 32, 32))")
    if not inputs:
        raise MinetError("check_module needs the shape of an input", "(3, 32, 32), without the batch")
    if not is_whole(batch) or batch < 1:
        raise MinetError(f"batch must be a whole number, 1 or more, got {batch!r}")
    with seeded():
        call = make()
    if not callable(call):
        raise MinetError(f"make() returned {call!r:.60}, which cannot be called")
    if writes_to_inputs(call):
        hint = "lambda: function, for a function that calls it on copies and returns what it wrote"
        raise MinetError(
            f"{title_of(call)} writes to its inputs: the kit checks what leaves them alone", hint
        )
    shapes = tuple(given if isinstance(given, torch.Tensor) else tuple(map(int, given)) for given in inputs)
    case = Case(make, shapes, batch, device)
    shown = ", ".join("a tensor" if isinstance(x, torch.Tensor) else str(x) for x in shapes)
    title = f"{title_of(call)} on {shown}, batch {batch}, {device}"
    with seeded(), torch.enable_grad(), threads(1):
        return Report(title, list(_outcomes(case)))


def is_input(given: Any) -> bool:
    """Whether it is a tensor, or a shape in positive whole numbers."""
    if isinstance(given, torch.Tensor):
        return True
    return isinstance(given, (tuple, list)) and all(is_whole(size) and size >= 1 for size in given)


def title_of(call: Any) -> str:
    """What is called, as its author names it."""
    if isinstance(call, torch.nn.Module):
        text = repr(call)
        return text if "\n" not in text else f"{type(call).__name__}(...)"
    if is_op(call):
        return f"{call._namespace}::{call._name}"
    owner = getattr(call, "__self__", None)
    return f"{owner.__name__}.apply" if isinstance(owner, type) else getattr(call, "__name__", repr(call))


def _outcomes(case: Case) -> Iterable[Check]:
    """Run the checks one by one; if it does not run at all, that is all there is to say."""
    runs = True
    for name, function in CHECKS.items():
        if runs:
            found = outcome(name, function, case)
            runs = name != "runs" or found.status != "FAIL"
            yield found
        else:
            yield Check(name, "SKIP", "it does not run")


def outcome(name: str, function: Callable[[Case], str | None], case: Case) -> Check:
    """Run a check; whatever the module raises is a finding."""
    seen: dict[str, None] = {}
    try:
        with gathered(seen):
            note = function(case) or ""
    except Skip as why:
        return Check(name, "SKIP", str(why), "", tuple(seen))
    except CheckFailed as failure:
        at = failure.place or place(case, failure.phase)
        return Check(name, "FAIL", str(failure), at, tuple(seen))
    except Exception as error:
        promise = (function.__doc__ or "").partition("\n")[0]
        return Check(name, "FAIL", f"{told(error)}\nthe contract: {promise}", "", tuple(seen))
    return Check(name, "PASS", note, "", tuple(seen))


def module_checks(cls: Any) -> Callable[..., None]:
    """Return a pytest function with one case for each example of a module or Function and each check.

    ``test_conformance = module_checks(MyModule)`` uses ``MyModule.examples()``.
    """
    import pytest

    cases = []
    for make, *inputs in cls.examples():
        label = f"{title_of(make())}{tuple(inputs)}".replace(" ", "")
        cases += [pytest.param(make, inputs, name, id=f"{name}-{label}") for name in CHECKS]

    @pytest.mark.parametrize(("make", "inputs", "name"), cases)
    def conformance(make: Callable[[], Any], inputs: tuple[Input, ...], name: str) -> None:
        with seeded(), torch.enable_grad(), threads(1):
            found = outcome(name, CHECKS[name], Case(make, tuple(inputs)))
        for text in found.warnings:
            warnings.warn(text, stacklevel=1)
        if found.status == "SKIP":
            pytest.skip(found.detail)
        if found.status == "FAIL":
            where = f"\nat {found.place}" if found.place else ""
            pytest.fail(f"{title_of(make())}: {name}: {found.detail}{where}", pytrace=False)

    return conformance
