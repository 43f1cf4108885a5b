"""The gradient check: bprop against central differences in float64.

Differences of sum(dy * y) are taken at up to PROBES single elements of x and of each parameter, so that a
failure names one, and along one random direction through all elements, so that an error anywhere shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.core import rng
from minet.core.layer import Shape
from minet.testing.harness import Case, CheckFailed, Rig, Skip, differing, multiple

EPS, PROBES = 1e-6, 48
RTOL = 1e-6  # relative to the largest slope
CAUSE = "bprop is not the derivative of fprop"
FLAT = "fprop rounds (a State or astype of few digits or whole numbers), or does not use"
UNDEFINED = "has no central difference: a result next to it is not finite"
NOT_FINITE = "a division by 0, or a log or root of x <= 0"
ROUNDING = 8 * np.finfo(np.float64).eps / EPS  # of a quotient, relative to the sum of magnitudes


def check_gradients(case: Case, train: bool) -> None:
    """Raise CheckFailed at the first slope of x or of a learned parameter that bprop gets wrong."""
    if case.backend_name != "cpu":
        raise Skip("differences need float64, which only the cpu backend has; parity carries the result over")
    rig = Rig(case, "float64")
    analytic = rig.both(train)
    atol = ROUNDING * float(np.abs(rig.get(rig.dy) * analytic["y"]).sum())
    arrays = {"dx": rig.x} | {slot.path: slot.value for slot in rig.net.slots if slot.param.lr != 0}
    for name, array in arrays.items():
        got = analytic[name].reshape(-1)
        draw = rng.generator(1, name)
        probes = draw.permutation(array.size)[:PROBES]
        expected = np.array([_slope(rig, array, np.eye(1, array.size, i)[0], train) for i in probes])
        compare(name, array.shape, probes, got[probes], expected, atol)
        direction = draw.choice([-1.0, 1.0], array.size)
        total, along = float(got @ direction), _slope(rig, array, direction, train)
        if not np.isfinite(along):
            raise CheckFailed(f"{name} along a random direction {UNDEFINED}", NOT_FINITE, "fprop")
        if not abs(total - along) <= RTOL * max(abs(along), float(np.abs(got).sum())) + atol:
            found = f"{name} along a random direction: {differing(along, total)}"
            raise CheckFailed(found, f"{CAUSE}, at elements not probed one by one", "bprop")


def compare(
    name: str, shape: Shape, probes: np.ndarray, got: np.ndarray, expected: np.ndarray, atol: float,
    cause: str = CAUSE, phases: tuple[str, str] = ("fprop", "bprop"),
) -> None:  # fmt: skip
    """Raise CheckFailed at the worst of some slopes, by their positions in an array of that shape.

    `phases` are the ones at fault if the differences, or else the slopes, are wrong.
    """
    error = np.abs(got - expected)
    worst = int(error.argmax())
    index = ", ".join(str(i) for i in np.unravel_index(probes[worst], shape))
    if not np.isfinite(expected).all():
        raise CheckFailed(f"{name}[{index}] {UNDEFINED}", NOT_FINITE, phases[0])
    if not error[worst] <= RTOL * max(np.abs(expected).max(), np.abs(got).max()) + atol:
        found = f"{name}[{index}]: {differing(expected[worst], got[worst])}"
        if cause == CAUSE and not expected.any():
            raise CheckFailed(found, f"{FLAT} {'x' if name == 'dx' else name}", phases[0])
        raise CheckFailed(found, multiple(got, expected) or cause, phases[1])


def _slope(rig: Rig, array: Any, direction: np.ndarray, train: bool) -> float:
    """Return the slope of sum(dy * y) as `array` moves along a direction."""
    flat = array.reshape(-1)
    home, ends = flat.copy(), []
    for sign in (1, -1):
        flat[:] = home + sign * EPS * direction
        ends.append(rig.fprop(train=train))
    flat[:] = home
    return float(np.sum(rig.dy * (ends[0] - ends[1])) / (2 * EPS))
