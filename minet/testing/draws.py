"""The check of random draws: what they must depend on, and that parts of a batch draw what the whole does.

A layer draws if, in training, y is another one at another place in the net or for another seed, or if samples
that are equal come out unequal.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from minet.core.blame import line_of
from minet.core.containers import Sequential
from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.testing.harness import ROUNDING, Case, CheckFailed, Rig, Skip, expect, registry

CHECKS, check = registry()

BATCH = 14  # of two halves that are no multiple of the four words of a Philox block
TRIES = 32  # before draws count as the same, as rare ones often are
HOW = "minet.rng.uniform(self.key, self.clock.step, x.shape)"
CAUSES = {  # what must change the draws: where they are the same if it does not, and why
    "depth": ("wherever the layer is in the net", f"they do not depend on both words of self.key: {HOW}"),
    "seed": ("for every seed", f"they do not depend on both words of self.key: {HOW}"),
    "step": ("at every step", f"they do not depend on self.clock.step: {HOW}"),
}


@check
def draws(case: Case) -> None:
    """Draws depend on the layer's place in the net, seed, step, and the sample's place in the batch."""
    home = Home(case)
    changed = {name: home.changed(name, 1) for name in CAUSES}
    if not (changed["depth"] or changed["seed"] or home.scattered()):  # a schedule depends on the step alone
        raise Skip("nothing is drawn in training")
    for name, (where, cause) in CAUSES.items():
        if not changed[name] and not any(home.changed(name, i) for i in range(2, TRIES)):
            raise CheckFailed(f"the draws of training are the same {where}", cause, "fprop")
    if not home.mixed():
        _check_parts(home)


def _check_parts(home: Home) -> None:
    """Each half of the batch alone, known as such, must draw what it does in the whole batch."""
    half = BATCH // 2
    cause = f"a part of a batch, as ranks and micro-batches have, must draw what the whole would: {HOW}"
    for first in (0, half):
        mine, said = slice(first, first + half), f"samples {first} to {first + half - 1} of {BATCH} alone"
        try:
            got = home.y(x=home.x[..., mine], part=(first, BATCH))
        except MinetError:
            raise
        except Exception as error:  # of a generator that takes numbers alone
            found = f"{said}: {type(error).__name__}: {error}"
            raise CheckFailed(found, cause, place=line_of(error)) from error
        expect(got, home.plain[..., mine], f"{said}: y", cause)


class Home:
    """Parameters and running statistics, with which new layers start."""

    def __init__(self, case: Case) -> None:
        self.case, self.rig = case, Rig(case, batch=BATCH)
        self.x = self.rig.get(self.rig.x)
        self.plain = self.y()

    def y(
        self, depth: int = 0, seed: int = 0, step: int = 0, x: np.ndarray | None = None,
        part: tuple[int, int] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """What a new layer, so many containers deep, makes of x in training."""
        x = self.x if x is None else x
        case = replace(self.case, make=lambda: _nested(self.case.make(), depth))
        rig = Rig(case, batch=x.shape[-1], seed=seed)
        held, given = (net.params.values() for net in (self.rig.net, rig.net))
        kept, start = (net.persistent.values() for net in (self.rig.net, rig.net))
        for value, place in zip([*held, *kept], [*given, *start], strict=True):
            rig.be.copy(value, place)
        rig.x, rig.net.clock.step, rig.net.clock.part = rig.array(x), step, part
        return rig.fprop()

    def changed(self, name: str, value: int) -> bool:
        """Whether y is another one if this argument of `y` is."""
        changes: dict[str, Any] = {name: value}
        return _differ(self.y(**changes), self.plain)

    def scattered(self) -> bool:
        """Whether equal samples come out unequal."""
        y = self.y(x=np.repeat(self.x[..., :1], BATCH, axis=-1))
        return _differ(y, np.repeat(y[..., :1], BATCH, axis=-1))

    def mixed(self) -> bool:
        """Whether the first sample's y depends on the others, as where statistics of the batch are used."""
        others = self.x * -0.5
        others[..., 0] = self.x[..., 0]
        return _differ(self.y(x=others)[..., 0], self.plain[..., 0])


def _nested(layer: Layer, depth: int) -> Layer:
    return reduce(lambda inner, _: Sequential(inner), range(depth), layer)


def _differ(got: np.ndarray, expected: np.ndarray) -> bool:
    """Whether they differ by more than rounding."""
    atol = ROUNDING[str(got.dtype)] * np.abs(expected[np.isfinite(expected)]).max(initial=0)
    return not np.allclose(got, expected, rtol=0, atol=atol, equal_nan=True)
