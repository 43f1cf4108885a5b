"""The checks of the kit that compare a layer's numbers with its own, more exact or plainer ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from minet.core.layer import Layer
from minet.testing.harness import (
    MODES,
    Case,
    CheckFailed,
    Rig,
    Skip,
    differing,
    expect_all,
    phase_of,
    registry,
    values,
)

CHECKS, check = registry()
PHASES = ("fprop", "bprop")
SMALL = "up to 0.01"
SCALES = {  # inputs that a float32 net meets: close to 0; far from it, on both sides or on one
    SMALL: lambda v: 0.01 * v,
    "from -80 to 100": lambda v: 100 * v,
    "from 85 to 120": lambda v: 100 + 20 * v,
    "from -120 to -85": lambda v: -100 - 20 * v,
}
LARGEST = np.finfo(np.float32).max
RESIDUE = 1e-12  # what rounding may leave of a difference that is 0, in float64


@check
def float32(case: Case) -> None:
    """float32 agrees with float64, so the gradient check's result carries over to training."""
    if case.backend_name != "cpu":
        raise Skip("only the cpu backend has float64")
    exact = {name: value.astype(np.float32) for name, value in Rig(case, "float64").both().items()}
    expect_all(Rig(case).both(), exact, "a sum or an exponential loses digits in float32", 1e-4, 1e-6)


@check
def magnitude(case: Case) -> None:
    """For x of 0.01 and of 100, nothing overflows or vanishes in float32 alone; of 0, nothing is NaN."""
    for said, scale in SCALES.items():
        for train in MODES:
            rig, exact = Rig(case), Rig(replace(case, backend="cpu"), "float64")
            x = scale(values(rig.x.shape, "x")).astype(np.float32)
            rig.x, exact.x = rig.array(x), exact.array(x)
            with np.errstate(all="ignore"):
                got, expected = rig.both(train), exact.both(train)
            for name in expected:
                in_range(got[name], expected[name], name, f"x {said}", small=said == SMALL)
    for train in MODES:
        _of_zeros(case, train)


def _of_zeros(case: Case, train: bool) -> None:
    """Fail at a NaN for x of 0: images are 0 at their borders, and so is much of what comes from ReLU."""
    rig = Rig(case)
    usual = rig.both(train)
    rig.be.fill(rig.x, 0.0)
    with np.errstate(all="ignore"):
        results = rig.both(train)
    for name, value in results.items():
        if np.isnan(value).any() and not np.isnan(usual[name]).any():
            at = ", ".join(map(str, np.argwhere(np.isnan(value))[0]))
            cause = "0 / 0, or the slope of a root at 0; add a small number, or take np.maximum(..., 1e-6)"
            raise CheckFailed(f"{name}[{at}] for x of 0: expected a number, got nan", cause, phase_of(name))


def in_range(
    got: np.ndarray, expected: np.ndarray, name: str, said: str, small: bool, phase: str = ""
) -> None:
    """Fail where a float32 array is not finite, or for `small` inputs all 0, if it could hold the result.

    Of large inputs, a slope may be 0 in float32 and not in float64: where a tanh is flat.
    """
    sizes = np.abs(expected)
    lost = ~np.isfinite(got) & (sizes < LARGEST)
    cause = "an exponential or power overflows on the way; subtract the maximum first, or divide by it"
    if small and np.isfinite(expected).all() and not got.any() and sizes.max(initial=0) > RESIDUE:
        lost = sizes == sizes.max()
        cause = "a power or product underflows on the way; divide by the largest value first"
    if lost.any():
        index = tuple(int(i) for i in np.argwhere(lost)[0])
        at = ", ".join(map(str, index))
        found = f"{name}[{at}] for {said}: {differing(expected[index], got[index])}"
        raise CheckFailed(found, cause, phase or phase_of(name))


@check
def numpy_version(case: Case) -> None:
    """Where a layer keeps NumPy versions, fprop_numpy and bprop_numpy, its loops compute the same."""
    if case.backend_name != "cpu":
        raise Skip("the loops run on the cpu backend")
    names = [f"{phase}_numpy" for phase in PHASES]
    if not any(hasattr(layer, name) for name in names for layer in case.make().walk()):
        raise Skip("no NumPy version is kept: fprop_numpy, bprop_numpy")
    for dtype, rtol in (("float64", 1e-9), ("float32", 1e-4)):
        for train in MODES:
            loops, plain = Rig(case, dtype), Rig(replace(case, make=lambda: _plain(case.make())), dtype)
            cause = "the loops do not compute what the NumPy version does"
            expect_all(loops.both(train), plain.both(train), cause, rtol)


def _plain(graph: Layer) -> Layer:
    """The layer with its NumPy versions in place of its loops."""
    for layer in graph.walk():
        for phase in PHASES:
            code: Any = getattr(layer, f"{phase}_numpy", None)
            if code is not None:
                vars(layer)[f"{phase}_cpu"] = code
    return graph
