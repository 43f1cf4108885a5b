"""The checks of what autograd relies on: one function for each promise, in the order of causes.

A check takes a `Case`, and raises `CheckFailed`, or `Skip` with the reason; what it returns is shown beside
PASS. The first line of its docstring is the promise.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from minet.testing.harness import CheckFailed, Skip
from minet.torch.kit.gradients import check_gradients
from minet.torch.kit.place import is_op
from minet.torch.kit.rig import (
    GRAD_OUTPUT,
    Case,
    Rig,
    array,
    modules_only,
    named,
    phase,
    registry,
    same,
    threads,
)

CHECKS, check = registry()


@check
def runs(case: Case) -> None:
    """forward takes a batch and gives tensors, in training and in evaluation, and backward runs."""
    if case.is_module and case.make() is case.make():
        raise CheckFailed("it returned the same object again", "it must make a new module each time", "fprop")
    first, second = (dict(Rig(case).targets()) for _ in range(2))
    if first.keys() != second.keys():
        name = min(first.keys() ^ second.keys())
        cause = "what it is made of depends on a set's order, a time or a random number"
        raise CheckFailed(f"of two objects, one alone has {name}", cause, "__init__")
    for train in case.modes:
        rig = Rig(case)
        x = rig.copies()
        outputs = rig.forward(x, train)
        if has_backward(rig.call) and not _changed(rig, x):  # of which backward may complain
            rig.backward(outputs)


def has_backward(call: Any) -> bool:
    """Whether it is no custom op without a registered backward."""
    return not is_op(call) or call._backward_fn is not None


def _changed(rig: Rig, x: list[torch.Tensor]) -> str:
    """The name of the first input that is no longer what it was."""
    pairs = zip(rig.names, x, rig.x, strict=True)
    return next((name for name, got, home in pairs if not torch.equal(got.detach(), home.detach())), "")


def needs_backward(case: Case) -> None:
    if not has_backward(case.make()):
        raise Skip("the op has no backward: op.register_autograd(...)")


@check
def untouched(case: Case) -> None:
    """forward and backward leave their inputs and grad_output unchanged: others read them too."""
    for train in case.modes:
        rig = Rig(case)
        x, home = rig.copies(), {n: array(x) for n, x in zip(rig.names, rig.x, strict=True)}

        def inputs(rig: Rig = rig, x: list[torch.Tensor] = x) -> dict[str, np.ndarray]:
            return {name: array(value) for name, value in zip(rig.names, x, strict=True)}

        outputs = rig.forward(x, train)
        if getattr(rig.module, "inplace", False) and _changed(rig, x):
            raise Skip("inplace=True: it is meant to write to x")
        same(inputs(), home, "it writes to its input: x.mul_(...), out=x", 0.0, "after forward, ")
        if not has_backward(rig.call):
            continue
        dy = rig.grad_outputs(outputs)
        kept = [array(d) for d in dy]
        rig.backward(outputs, dy)
        cause = "backward writes to what it may only read; grad_output.clone() is its own"
        names = [GRAD_OUTPUT if len(dy) == 1 else f"{GRAD_OUTPUT}{i}" for i in range(len(dy))]
        got = inputs() | {name: array(d) for name, d in zip(names, dy, strict=True)}
        home |= dict(zip(names, kept, strict=True))
        same(got, home, cause, 0.0, "after backward, ", at="bprop")


@contextmanager
def poisoned() -> Iterator[None]:
    """Within this context memory that nothing has written to holds NaN, or an integer's largest value."""
    settings: Any = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode(), settings.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("warn")
    settings.fill_uninitialized_memory = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an operation has no deterministic form
            yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        settings.fill_uninitialized_memory = before[1]


@check
def written(case: Case) -> None:
    """Every element of outputs and gradients is written: memory from torch.empty holds anything."""
    for train in case.modes:
        plain = both(Rig(case), train)
        with poisoned():
            rig = Rig(case)
            got = both(rig, train)
        _leave_zeros(got)
        again = both(Rig(case), train)
        for name, p in (rig.params | rig.home).items():
            if p.is_floating_point() and bool(p.isnan().any()):
                cause = "torch.empty, and nothing that fills it"
                raise CheckFailed(f"{name} has no initial value", cause, "fprop")
        for name, value in got.items():
            usual = np.isnan(plain[name]) & np.isnan(again[name])
            bad = np.isnan(value) & ~usual
            if bad.any():
                at = ", ".join(str(i) for i in np.argwhere(bad)[0])
                where = f"{name}: no element" if bad.all() else f"{name}[{at}]"
                cause = "memory from torch.empty that nothing writes to: a loop that ends early, a mask"
                raise CheckFailed(f"{where} was {'' if bad.all() else 'not '}written", cause, phase(name))
            if not np.isfinite(value).all():
                cause = "a division by 0, or a log or root of x <= 0"
                raise CheckFailed(f"{name} is not finite, although its inputs are", cause, phase(name))
        if all(np.array_equal(plain[name], again[name]) for name in plain):  # else see determinism
            same(got, plain, "memory from torch.empty is read before it is written")


def _leave_zeros(arrays: dict[str, np.ndarray]) -> None:
    """Free memory of the arrays' sizes that holds 0, for what takes it next: it may have held NaN."""
    for value in arrays.values():
        blocks = [torch.zeros(value.shape) for _ in range(8)]
        del blocks


def both(rig: Rig, train: bool) -> dict[str, np.ndarray]:
    """Outputs and gradients; of an op without a backward the outputs alone."""
    if has_backward(rig.call):
        return rig.both(train)
    return named(rig.forward(train=train))


@check
def determinism(case: Case) -> None:
    """After the same torch.manual_seed, results are bit-identical, from a new object and from a used one."""
    for train in case.modes:
        rig, other = Rig(case), Rig(case)
        cause = "while it is made: random numbers that torch.manual_seed does not set (numpy, random)"
        made, again = ({n: array(p) for n, p in (one.params | one.home).items()} for one in (rig, other))
        same(again, made, cause, 0.0, "two objects differ in ")
        plain = both(rig, train)
        cause = "random numbers that torch.manual_seed does not set (numpy, random), a set's order, a race"
        same(both(other, train), plain, cause, 0.0)
        x = [-0.5 * x if x.is_floating_point() else x for x in rig.copies()]
        rig.forward(x, train)
        same(both(rig, train), plain, "something carries over from the previous batch", 0.0)
        with threads(max(2, os.cpu_count() or 1)):
            many = both(Rig(case), train)
            same(both(Rig(case), train), many, "on several threads: a race, or a sum in any order", 0.0)
        same(many, plain, "on several threads it computes something else: a race")


@check
def evaluation(case: Case) -> None:
    """Evaluation draws no random numbers and changes no buffers, and train() comes back from it."""
    modules_only(case, "training and evaluation modes")
    rig = Rig(case)
    before = named(rig.forward(train=True))
    plain = named(rig.forward(train=False, seed=1))
    after, home = ({n: array(b) for n, b in found.items()} for found in (rig.now(), rig.home))
    same(after, home, "buffers are updated in evaluation too: if self.training", 0.0, "after evaluation, ")
    other = named(rig.forward(train=False, seed=2))
    same(other, plain, "it draws in evaluation: F.dropout(x, p, self.training)", 0.0, "after another seed, ")
    again = named(rig.forward(train=True))
    same(again, before, "train() does not undo eval()", 0.0, "after eval() and train(), ")


@check
def gradient(case: Case) -> str:
    """In training, the gradients of inputs and parameters equal central differences."""
    needs_backward(case)
    return check_gradients(case, train=True)


@check
def gradient_eval(case: Case) -> str:
    """In evaluation, the gradients of inputs and parameters equal central differences."""
    modules_only(case, "evaluation mode")
    return check_gradients(case, train=False)


@check
def needs_grad(case: Case) -> None:
    """The other results are the same where an input, or the parameters, need no gradient."""
    for train in case.modes:
        rig = Rig(case)
        plain = both(rig, train)
        with torch.no_grad():
            got = named(rig.forward(train=train))
        cause = "forward depends on whether a gradient is needed"
        same(got, {name: plain[name] for name in got}, cause, None, "under no_grad, ")
        if not has_backward(rig.call):
            continue
        cause = "ctx.needs_input_grad is not heeded, or a gradient is returned in another's place"
        inputs = {name: [x] for name, x in zip(rig.names, rig.x, strict=True) if x.requires_grad}
        for name, leaves in (inputs | {"the parameters": list(rig.params.values())}).items():
            if leaves and len(leaves) < len(rig.targets()):
                for leaf in leaves:
                    leaf.requires_grad_(False)
                got = rig.both(train)
                for leaf in leaves:
                    leaf.requires_grad_(True)
                same(got, {n: plain[n] for n in got}, cause, None, f"without a gradient of {name}, ")
