"""A layer from an expression beside the same by hand, on the cpu: `python -m benchmarks.elementwise`.

Prints milliseconds of fprop and bprop on (64, 32, 32, 128), medians in turns, and their ratio. Results are
compared first. `python -m benchmarks.instructions` does likewise for a GPU.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

from minet import Layer, Net
from minet.layers import Elementwise, PReLU

SHAPE, BATCH, TURNS = (64, 32, 32), 128, 15


def milliseconds(layers: list[Layer]) -> list[tuple[float, float]]:
    """The medians of fprop and of bprop of each layer, timed in turns."""
    draw = np.random.default_rng(0)
    x, dy = (draw.standard_normal((*SHAPE, BATCH)).astype(np.float32) for _ in "xy")
    nets, dx = [Net([layer], SHAPE, BATCH) for layer in layers], np.empty_like(x)
    results = []
    for net in nets:
        y = net.fprop(x, train=True).copy()
        net.bprop(dy, dx)
        results.append((y, dx.copy()))
    for found, expected in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    took: list[tuple[list[float], list[float]]] = [([], []) for _ in nets]
    for _ in range(TURNS):
        for net, (forward, backward) in zip(nets, took, strict=True):
            begin = time.perf_counter()
            net.fprop(x, train=True)
            middle = time.perf_counter()
            net.bprop(dy, dx)
            forward.append(middle - begin)
            backward.append(time.perf_counter() - middle)
    return [(statistics.median(a) * 1e3, statistics.median(b) * 1e3) for a, b in took]


def main() -> int:
    by_hand, expressed = milliseconds([PReLU(), Elementwise("where(x > 0, x, a * x)", a=0.25)])
    for what, one, other in zip(("fprop", "bprop"), by_hand, expressed, strict=True):
        print(f"{what}  PReLU {one:.2f} ms, from an expression {other:.2f} ms, ratio {other / one:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
