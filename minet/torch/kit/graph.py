"""The checks of backward in graphs that use a module more than once, or write to what it kept."""

from __future__ import annotations

import re

import torch  # pyright: ignore[reportMissingImports]

from minet.testing.harness import CheckFailed
from minet.torch.kit.contract import needs_backward
from minet.torch.kit.place import told
from minet.torch.kit.rig import Case, Rig, differentiable, registry, same

CHECKS, check = registry()
# How autograd refuses to use what it has kept and others have changed.
NOTICED = r"modified by an inplace operation|is a view and its base .* modified inplace"


@check
def backward_twice(case: Case) -> None:
    """Gradients add up: after two backward passes of one graph they are twice those of one."""
    needs_backward(case)
    for train in case.modes:
        plain, rig = Rig(case).both(train), Rig(case)
        outputs = rig.forward(train=train)
        dy = rig.grad_outputs(outputs)
        if not dy:
            return
        with_graph = [y for y in outputs if differentiable(y)]
        for _ in range(2):
            torch.autograd.backward(with_graph, dy, retain_graph=True)
        got = rig.grads({f"{name}.grad": x.grad for name, x in rig.targets().items()})
        cause = "backward changes what it has kept, or gives away an array that it goes on using"
        same(got, {name: 2 * plain[name] for name in got}, cause, None, "after two backward passes, ")


@check
def used_twice(case: Case) -> None:
    """An object may be used several times in one graph: each use has its own gradients."""
    needs_backward(case)
    cause = "forward keeps on self, or on the class, what backward reads: the last call overwrites it"
    for train in case.modes:
        plain, rig = Rig(case).both(train), Rig(case)
        first = rig.forward(train=train)
        rig.forward([-0.5 * x if x.is_floating_point() else x for x in rig.copies()], train)
        got = rig.grads(rig.backward(first))
        same(got, {name: plain[name] for name in got}, cause, None, "after another forward, ")


@check
def saved(case: Case) -> None:
    """If others write to x or y before backward, the gradients stay right, or autograd refuses."""
    needs_backward(case)
    for train in case.modes:
        plain = Rig(case).both(train)
        for name in ("x", "y"):
            rig = Rig(case)
            x = rig.copies()
            outputs = rig.forward(x, train)
            dy = rig.grad_outputs(outputs)
            for value in x if name == "x" else outputs:
                if value.is_floating_point() and 0 not in value.stride():
                    value.detach().fill_(float("nan"))
            try:
                got = rig.grads(rig.backward(outputs, dy))
            except RuntimeError as error:
                if re.search(NOTICED, str(error)):
                    continue
                found = f"after {name} was changed, {told(error)}"
                raise CheckFailed(found, "backward fails", "bprop") from error
            cause = f"ctx.{name} = {name}: keep it by ctx.save_for_backward({name}), which notices the change"
            same(got, {n: plain[n] for n in got}, cause, None, f"after {name} was changed, ")
