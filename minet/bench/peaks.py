"""The peaks of this machine or card that times are measured against, each taken in its own process.

The bandwidth of a copy counts bytes read and written. It depends on whether the arrays fit into a cache, so
it is measured from small to large. Operations are those of the fastest large matrix product available.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from minet.bench.process import answer_of, threads
from minet.bench.rivals import installed
from minet.bench.timers import HostWatch, pycuda_watch

SIZES = [1 << n for n in range(20, 30)]  # bytes read and written
SIDE = 2048  # of square matrices on the cpu; four times that on a card


def measured(backend: str) -> dict[str, Any]:
    """Measure ``copy``: (bytes, bytes per second), small to large; ``product``: operations per second."""
    if backend == "cuda":
        return answer_of("peaks", "card")
    products = {name: answer_of("peaks", name)["product"] for name in ("numpy", "torch") if installed(name)}
    best = max(products, key=products.__getitem__)
    return {**answer_of("peaks", "copy"), "product": products[best], "of": best}


def fastest(watch: Any, call: Callable[[], Any], queued: bool = False, times: int = 12) -> float:
    """Return the seconds of the fastest of a few calls, after one to warm up."""
    watch.seconds(call)
    return float(min(watch.seconds(call, queued) for _ in range(times)))


def copy_ladder(
    sizes: list[int], make: Callable[[int], list[Callable[[], Any]]], watch: Any, queued: bool
) -> Any:
    """Return (bytes, bytes per second) of the fastest way of copying, for each size."""
    return [[size, size / min(fastest(watch, call, queued) for call in make(size))] for size in sizes]


def host_copies(size: int) -> list[Callable[[], Any]]:
    """Return ways to copy size/2 bytes with all threads: NumPy's copy in parts, and a Numba loop."""
    from minet.bench.copy_loop import copy

    src, dst = np.ones(size // 8, np.float32), np.zeros(size // 8, np.float32)
    parts = [slice(i * len(src) // threads(), (i + 1) * len(src) // threads()) for i in range(threads())]
    pool = ThreadPoolExecutor(threads())
    return [
        lambda: list(pool.map(lambda part: np.copyto(dst[part], src[part]), parts)),
        lambda: copy(src, dst),
    ]


def card_peaks(be: Any, watch: Any, sizes: list[int], side: int) -> dict[str, Any]:
    """Measure a device's copy within its memory, and its matrix product."""

    def copies(size: int) -> list[Callable[[], Any]]:
        src, dst = be.zeros((size // 8,)), be.zeros((size // 8,))
        return [lambda: be.copy(src, dst)]

    a, b, out = (be.zeros((side, side)) for _ in range(3))
    seconds = fastest(watch, lambda: be.gemm(a, b, out), True)
    return {
        "copy": copy_ladder(sizes, copies, watch, True),
        "product": 2 * side**3 / seconds,
        "of": be.name,
        "device": getattr(be, "device_name", ""),
    }


def product(name: str, side: int) -> float:
    """Return the operations per second of NumPy's or PyTorch's product of square matrices."""
    watch = HostWatch()
    if name == "torch":
        import torch  # pyright: ignore[reportMissingImports]

        a, b, out = (torch.ones(side, side) for _ in range(3))
        seconds = fastest(watch, lambda: torch.mm(a, b, out=out))
    else:
        x, y, z = (np.ones((side, side), np.float32) for _ in range(3))
        seconds = fastest(watch, lambda: np.matmul(x, y, out=z))
    return 2 * side**3 / seconds


def main(what: str) -> None:
    if what == "card":
        from minet import backends

        be: Any = backends.get("cuda")
        found = card_peaks(be, pycuda_watch(be), [*SIZES[2:], 1 << 30], 4 * SIDE)
    elif what == "copy":
        found = {"copy": copy_ladder(SIZES, host_copies, HostWatch(), False)}
    else:
        found = {"product": product(what, SIDE)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
