"""How the cost of a step grows: `python -m benchmarks.scaling [LAYER ...] [--plot FILE] [--json FILE]`.

Times fprop and bprop of some layers against N, C, H*W and kernels, each over two decades with the rest fixed.
Along each axis the exponent of the growth is fitted over both decades, and over the upper one, where the
fixed cost of a call matters less. Proportional growth has the exponent 1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from minet.bench import report
from minet.bench.cases import Case, layer
from minet.bench.contender_minet import build
from minet.bench.timers import measure

Curves: TypeAlias = dict[str, dict[str, list[tuple[float, float]]]]  # (size, milliseconds) by axis and layer
FACTORS = (1, 2, 4, 8, 16, 32, 64, 100)
BASE = {"N": 4, "C": 2, "H*W": 64, "kernels": 1}  # the smallest size along each axis
FIXED = {"N": 32, "C": 16, "H*W": 256, "kernels": 1}  # sizes along the other axes
SETTINGS: dict[str, dict[str, Any]] = {
    "GaussianPool": {"window": 5, "stride": 1},
    "MaxPool": {"window": 3, "stride": 2},
    "PReLU": {},
    "Conv": {"window": 3, "maps": 16},
}


def sized(name: str, axis: str, size: int) -> Case | None:
    """Return a layer's case of that size along an axis; None for kernels if the layer has none."""
    sizes = {**FIXED, axis: size}
    side = round(sizes["H*W"] ** 0.5)
    settings = dict(SETTINGS[name])
    if name == "GaussianPool":
        settings["kernels"] = sizes["kernels"]
    elif axis == "kernels":
        return None
    return layer(name, (sizes["C"], side, side, sizes["N"]), **settings)


def curves(
    names: list[str], factors: tuple[int, ...] = FACTORS, least: float = 0.2, say: Any = print
) -> Curves:
    """Time every layer along every axis."""
    found: Curves = {axis: {} for axis in BASE}
    for axis, smallest in BASE.items():
        for name in names:
            points = []
            for factor in factors:
                case = sized(name, axis, smallest * factor)
                if case is None:
                    continue
                built = build(case, "", "cpu")
                seconds = measure(built.watch, built.phases["fprop+bprop"], False, least)
                # The side is rounded to a whole number, so take the actual area.
                size = case.shape[1] * case.shape[2] if axis == "H*W" else smallest * factor
                points.append((float(size), seconds * 1e3))
            if points:
                found[axis][name] = points
                both, upper = exponents(points)
                times = f"{points[0][1]:.3g} to {points[-1][1]:.3g} ms"
                say(f"{name:<14} {axis:<8} {both:8.2f} {upper:13.2f}   {times}")
    return found


def exponents(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Fit the exponent of time in size, over all points and over the upper decade."""
    sizes, times = np.log(np.array(points)).T
    upper = sizes >= sizes[-1] - np.log(13)  # a decade and one more point
    return float(np.polyfit(sizes, times, 1)[0]), float(np.polyfit(sizes[upper], times[upper], 1)[0])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("layers", nargs="*", metavar="LAYER", help=f"some of {', '.join(SETTINGS)}")
    parser.add_argument("--plot", type=Path, help="draw the curves as a PNG")
    parser.add_argument("--json", type=Path, help="write the curves to this file")
    options = parser.parse_args(arguments)
    if unknown := set(options.layers) - set(SETTINGS):
        parser.error(f"unknown layer {', '.join(sorted(unknown))}; choose from {', '.join(SETTINGS)}")
    facts = report.facts("cpu", None)
    print(report.opening(facts).splitlines()[0])
    print(f"{'fprop+bprop':<14} {'against':<8} {'exponent':>8} {'upper decade':>13}   time")
    found = curves(options.layers or list(SETTINGS))
    if options.json:
        options.json.write_text(json.dumps({**facts, "curves": found}, indent=1) + "\n")
    if options.plot:
        from minet.bench.plot import growth

        growth(options.plot, "Time of fprop and bprop as a size grows; dashed: proportional growth", found)


if __name__ == "__main__":
    main()
