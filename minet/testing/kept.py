"""The checks of what a layer keeps: from fprop to bprop, from one batch to the next, and in a checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.core.layer import SET_BY_NET
from minet.core.settings import is_real
from minet.testing.harness import MODES, Case, Rig, expect, expect_all, registry

CHECKS, check = registry()

COUNTS = (0, 100, 10**4, 10**6)  # what a counter may have come to


@check
def bprop_again(case: Case) -> None:
    """bprop may run more than once for one fprop, and leaves running statistics to fprop."""
    for train in MODES:
        rig = Rig(case)
        rig.fprop(train=train)
        kept = rig.persistent()
        plain = {"dx": rig.bprop(), **rig.grads()}
        cause = "bprop updates running statistics, once for each time it runs; update them in fprop"
        expect_all(rig.persistent(), kept, cause, 0.0, phase="bprop")
        cause = "a second bprop of one fprop differs: the first changes the state that it reads"
        expect_all({"dx": rig.bprop(), **rig.grads()}, plain, cause, 0.0)
        rig.poison(scratch=True)
        cause = "bprop reads scratch of fprop's, which other layers use too; declare it without scratch=True"
        expect_all({"dx": rig.bprop(), **rig.grads()}, plain, cause, 0.0)


@check
def resize(case: Case) -> None:
    """After the batch size changes, results equal those of a net built for it; parameters stay."""
    plain, rig = Rig(case, batch=case.batch + 1), Rig(case)
    rig.both()
    rig.net.resize(case.batch + 1)
    rig.x, rig.dy = plain.x, plain.dy
    cause = "a buffer of the old batch size is kept outside self.s, or not rebuilt in on_bind"
    for path, value in plain.net.persistent.items():  # `rig` has moved its running statistics
        rig.be.copy(value, rig.net.persistent[path])
    expect_all(rig.both(), plain.both(), cause)


@check
def save_load(case: Case) -> None:
    """Parameters and persistent state are complete: a new layer that loads them computes the same."""
    from safetensors.numpy import load, save

    rig = Rig(case)
    _run_twice(rig, case)
    kept = rig.net.params | rig.net.persistent
    stored = load(save({path: np.ascontiguousarray(rig.get(value)) for path, value in kept.items()}))
    other = Rig(case, seed=1)
    for path, value in (other.net.params | other.net.persistent).items():
        other.be.copy(stored[path], value)
    cause = "the layer keeps something outside its parameters and persistent state"
    expect(other.fprop(train=False), rig.fprop(train=False), "y after loading", cause, 0.0)


def _run_twice(rig: Rig, case: Case) -> None:
    """Train on the same x twice; fail if that changes a number in an attribute, and results depend on it."""
    rig.fprop()
    before = _numbers(rig)
    rig.fprop()
    for (i, name), value in _numbers(rig).items():
        if value != before.get((i, name), value):
            for train in MODES:
                _without(case, i, name, train)


def _without(case: Case, i: int, name: str, train: bool) -> None:
    """Fail if y or dx depends on a number of layer i that no checkpoint has."""
    plain = Rig(case).both(train)
    for count in COUNTS:
        rig = Rig(case)
        layer = list(rig.graph.walk())[i]
        setattr(layer, name, count)
        cause = (
            f"each step changes self.{name}, and no checkpoint has it: "
            f'"{name}": State((1,), per_sample=False, persistent=True)'
        )
        got = rig.both(train)
        for what in ("y", "dx"):
            expect(got[what], plain[what], f"where {layer.full_path}.{name} is {count}, {what}", cause, 0.0)


def _numbers(rig: Rig) -> dict[tuple[int, str], Any]:
    """The numbers in attributes of the layers, by the layer's place in `walk`."""
    return {
        (i, name): value
        for i, layer in enumerate(rig.graph.walk())
        for name, value in vars(layer).items()
        if is_real(value) and name not in SET_BY_NET
    }
