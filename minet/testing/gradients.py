"""The gradient check: bprop against central differences in float64.

Differences of sum(dy * y) are taken at up to PROBES single elements of x and of each parameter, so that a
failure names one, and along one random direction through all elements, so that an error anywhere shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.core import rng
from minet.testing.harness import Case, CheckFailed, Rig, Skip

EPS, PROBES = 1e-6, 48
RTOL = 1e-6  # relative to the largest slope
ROUNDING = 8 * np.finfo(np.float64).eps / EPS  # of a quotient, relative to the sum of magnitudes


def check_gradients(case: Case, train: bool) -> None:
    """Raise CheckFailed at the first slope of x or of a learned parameter that bprop gets wrong."""
    if case.backend_name != "cpu":
        raise Skip("differences need float64, which only the cpu backend has; parity carries the result over")
    rig = Rig(case, "float64")
    analytic = rig.both(train)
    atol = ROUNDING * float(np.abs(rig.get(rig.dy) * analytic["y"]).sum())
    arrays = {"dx": rig.x} | {slot.path: slot.value for slot in rig.net.slots if slot.param.lr != 0}
    cause = "bprop is not the derivative of fprop"
    for name, array in arrays.items():
        got = analytic[name].reshape(-1)
        draw = rng.generator(1, name)
        probes = draw.permutation(array.size)[:PROBES]
        expected = np.array([_slope(rig, array, np.eye(1, array.size, i)[0], train) for i in probes])
        error = np.abs(got[probes] - expected)
        if not error.max() <= RTOL * max(np.abs(expected).max(), np.abs(got).max()) + atol:
            worst = error.argmax()
            index = ", ".join(str(i) for i in np.unravel_index(probes[worst], array.shape))
            found = f"{name}[{index}]: expected {expected[worst]:.9g}, got {got[probes[worst]]:.9g}"
            raise CheckFailed(found, cause)
        direction = draw.choice([-1.0, 1.0], array.size)
        total, along = float(got @ direction), _slope(rig, array, direction, train)
        if not abs(total - along) <= RTOL * max(abs(along), float(np.abs(got).sum())) + atol:
            found = f"{name} along a random direction: expected {along:.9g}, got {total:.9g}"
            raise CheckFailed(found, cause + ", at elements not probed one by one")


def _slope(rig: Rig, array: Any, direction: np.ndarray, train: bool) -> float:
    """Return the slope of sum(dy * y) as `array` moves along a direction."""
    flat = array.reshape(-1)
    home, ends = flat.copy(), []
    for sign in (1, -1):
        flat[:] = home + sign * EPS * direction
        ends.append(rig.fprop(train=train))
    flat[:] = home
    return float(np.sum(rig.dy * (ends[0] - ends[1])) / (2 * EPS))
