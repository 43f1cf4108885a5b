"""Compare the results of two contenders on the same arrays that are timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minet import layers
from minet.bench.cases import Case, inputs

# Relative to an array's largest value. Parameter gradients are float32 sums over all positions, in any order.
# They are also measured against a tenth of their layer's largest: one may be all rounding (sigma, window 2).
# In a model, a value close to 0 may fall on either side of a ReLU, which changes single terms of the sums.
OF_IMAGES, OF_SUMS, OF_MODELS, TENTH = 2e-4, 2e-3, 1e-2, 0.1


def wrong(case: Case, file: Path) -> str:
    """Return what is wrong with a contender's arrays in themselves; empty if nothing is."""
    with np.load(file) as arrays:
        for name in arrays.files:
            if not np.isfinite(arrays[name]).all():
                return f"{name} is not finite"
        for name, largest in _largest(arrays).items():
            if not largest:
                return f"{name} is all zeros"
        return outside(case, arrays["drawn"]) if "drawn" in arrays.files else ""


def differs(case: Case, ours: Path, theirs: Path, whole: bool = True) -> str:
    """Return how the arrays differ beyond rounding, if they do; a `whole` contender must have all of ours."""
    with np.load(ours) as mine, np.load(theirs) as others:
        largest = _largest(mine)
        for name in mine.files:
            if name not in others.files:
                if whole or name == "y":
                    return f"has no {name}"
                continue
            a, b = mine[name], others[name]
            if a.shape != b.shape:
                return f"{name} has shape {b.shape}, minet's has {a.shape}"
            if name == "drawn":
                continue
            far = float(np.abs(a - b).max() / max(np.abs(a).max(), TENTH * largest[_group(name)]))
            of_gradients = OF_MODELS if case.is_model else OF_SUMS
            if not far <= (OF_IMAGES if name in ("y", "dx") else of_gradients):
                return f"{name} by {far:.1g} of its largest value"
    return ""


def _group(name: str) -> str:
    """Return an image's own name, or the layer of a parameter's gradient."""
    return name.rpartition(".")[0] or name


def _largest(arrays: Any) -> dict[str, float]:
    """Return the largest value of each image, and of each layer's gradients."""
    found: dict[str, float] = {}
    for name in arrays.files:
        found[_group(name)] = max(found.get(_group(name), 0.0), float(np.abs(arrays[name]).max()))
    return found


def outside(case: Case, drawn: np.ndarray) -> str:
    """Report draws that are not a positive value of their window, nor 0 where it has none; empty if none."""
    x, _ = inputs(case, drawn.shape[:3])
    window = getattr(layers, case.layer)(**case.settings).window.on(x.shape)
    found, most = np.zeros(drawn.shape, bool), np.zeros(drawn.shape, x.dtype)
    for row in window.taps(window.padded(np.maximum(x, 0))):
        for tap in row:
            found |= (tap == drawn) & (drawn > 0)
            np.maximum(most, tap, out=most)
    found |= (most == 0) & (drawn == 0)
    bad = int(found.size - np.count_nonzero(found))
    return f"{bad:,} of {found.size:,} draws are not from their windows" if bad else ""
