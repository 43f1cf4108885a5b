"""What each rung of docs/gaussian-pooling.md costs: `python -m benchmarks.ladder`, on a card with `--time`.

The rungs are the layers in examples/gaussian_pooling/ladder.py, with minet's own GaussianPool at the top. A
net of each takes a step on a backend that launches nothing and notes what it is to launch. From that come

- bytes for each x: what launches read and write of arrays with a batch, each element once per launch;
- instructions for each x: those that nvcc made of a thread, times the threads. A loop that marches down P
  rows counts as often as it runs; any other loop, and both sides of a branch, count once;
- registers: the most that one of the kernels takes.

It needs nvcc, and for the instructions nvdisasm; without them these columns stay empty. `--time` compares
each rung with GaussianPool and measures it on a card, with cold caches.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import instructions, registers
from benchmarks.registers import Build, Noting
from minet import Concat, Layer, Net, backends
from minet.backends import kernel_cache
from minet.backends.cuda_source import Source
from minet.backends.nvidia import nvcc
from minet.core.files import run_file
from minet.layers import GaussianPool

SHAPE, BATCH = (64, 32, 32), 128
PIXELS = math.prod(SHAPE) * BATCH
WINDOW = {"window": 11, "stride": 2, "pad": 5}
COLUMNS = ("bytes", "instructions", "registers")
ladder = run_file(Path(__file__).parents[1] / "examples/gaussian_pooling/ladder.py")


def one_kernel() -> dict[str, Layer]:
    """Return the rungs by their names in the table, each with one kernel."""
    rungs = {
        f"{i} {cls.__name__}": cls(**WINDOW)
        for i, cls in enumerate(ladder.RUNGS, 1)
        if cls.__name__ != "ManyPool"
    }
    return rungs | {"GaussianPool": GaussianPool(**WINDOW)}


def three_kernels() -> dict[str, Layer]:
    """Return those rungs that differ if there are three kernels: branches before rung 6, then one layer."""
    rungs = {
        "5 Concat of three MarchPool": Concat(*(ladder.MarchPool(**WINDOW) for _ in range(3))),
        "6 ManyPool(kernels=3)": ladder.ManyPool(**WINDOW, kernels=3),
        "7 LanesPool(kernels=3)": ladder.LanesPool(**WINDOW, kernels=3),
    }
    return rungs | {"GaussianPool(kernels=3)": GaussianPool(**WINDOW, kernels=3)}


@dataclass
class Launch:
    """One launch of a kernel: what is compiled, its name, its threads, and the bytes it moves."""

    build: Build
    code: Source
    kernel: str
    threads: int
    moved: int


@dataclass
class Noted(Noting):
    """A backend that launches nothing and notes each launch of a layer's kernels."""

    launches: list[Launch] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def load(self, code: Source, constants: dict[str, Any]) -> Any:
        super().load(code, constants)
        return Build(code.path, tuple(sorted(constants.items()))), code

    def call(
        self, path: Path, name: str, constants: Any, values: dict[str, Any], *args: Any, **options: Any
    ) -> None:
        self._values = values
        super().call(path, name, constants, values, *args, **options)

    def start(self, module: Any, kernel: Any, grid: Any, block: Any, *args: Any, **options: Any) -> None:
        build, code = module
        if build.path.stem != "arithmetic":  # sums of a few thousand numbers
            moved = sum(self._moved(code, kernel))
            self.launches.append(Launch(build, code, kernel.name, math.prod(grid) * math.prod(block), moved))

    def _moved(self, code: Source, kernel: Any) -> Iterator[int]:
        body = text_of(code, kernel.name)
        for parameter in kernel.parameters:
            array = self._values.get(parameter.name)
            if parameter.pointer and array is not None and array.ndim == 4:
                reads = re.search(rf"const \w+ \*{parameter.name}\b", body)
                both = not reads and (f"atomicAdd({parameter.name}" in body or self._values.get("beta"))
                yield array.nbytes * (2 if both else 1)


def text_of(code: Source, kernel: str) -> str:
    """Return the parameters and the body of a kernel."""
    return re.findall(rf"\b{kernel}\((.*?)^}}", code.text, re.DOTALL | re.MULTILINE)[0]


def launches(layer: Layer) -> dict[str, list[Launch]]:
    """Return the launches of fprop and of bprop."""
    be = Noted()
    net = Net(layer, SHAPE, BATCH, backend=be)
    x, dx = (be.zeros((*SHAPE, BATCH)) for _ in range(2))
    net.fprop(x)
    forward, be.launches = be.launches, []
    net.bprop(net.dy, dx)
    return {"fprop": forward, "bprop": be.launches}


def bytes_for_each_x(each: list[Launch]) -> float:
    """Return the bytes that launches move for each element of x."""
    return sum(launch.moved for launch in each) / PIXELS


def per_thread(launch: Launch, phase: str, listing: str) -> int:
    """Count the instructions of a thread of a kernel in the machine code that nvdisasm lists."""
    found = {name: (lines, labels) for name, lines, labels in instructions.kernels(listing)}
    lines, labels = found[launch.kernel]
    whole = sum(not line.startswith("NOP") for line in lines) - 1  # less the branch to itself at the end
    (R, _), (SY, _), (PY, _) = GaussianPool(**WINDOW).window[:3]
    P, deep = (SHAPE[1] + 2 * PY - R) // SY + 1, -(-R // SY)
    times = P + deep - 1 - PY // SY if phase == "fprop" else P
    marches = "#pragma unroll 1\n" in text_of(launch.code, launch.kernel)
    march = instructions.loop(lines, labels) if marches else 0
    return whole + march * (times - 1)


def costs(layer: Layer) -> dict[tuple[str, str], float]:
    """Return what COLUMNS name, by (phase, column), as far as the tools are there."""
    found: dict[tuple[str, str], float] = {}
    for phase, each in launches(layer).items():
        found[phase, "bytes"] = bytes_for_each_x(each)
        if not nvcc():
            continue
        cubins = [instructions.cubin(launch.build, launch.code) for launch in each]
        if instructions.nvdisasm():
            listings = map(instructions.machine_code, cubins)
            counts = (
                la.threads * per_thread(la, phase, text) for la, text in zip(each, listings, strict=True)
            )
            found[phase, "instructions"] = sum(counts) / PIXELS
        reports = (
            registers.parsed(la.build, kernel_cache.compiler_output(path))
            for la, path in zip(each, cubins, strict=True)
        )
        rows = {row.kernel: row for report in reports for row in report}
        found[phase, "registers"] = max(rows[launch.kernel].registers[90] for launch in each)
    return found


def table(layers: dict[str, Layer]) -> list[str]:
    """Return the lines of a table in Markdown."""
    wanted = [(phase, column) for column in COLUMNS for phase in ("fprop", "bprop")]
    lines = ["| rung | " + " | ".join(f"{column}, {phase}" for phase, column in wanted) + " |"]
    lines.append("|---|" + "---:|" * len(wanted))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the work is nvcc's
        for name, found in zip(layers, pool.map(costs, layers.values()), strict=True):
            cells = (f"{found[key]:.4g}" if key in found else "" for key in wanted)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def timed(layers: dict[str, Layer], backend: str = "cuda") -> list[str]:
    """Compare each rung with GaussianPool, then time it on a card; return a table in Markdown."""
    from minet.backends.cuda_toolkit import cubin
    from minet.bench.timers import measure, pycuda_watch

    be: Any = backends.get(backend)
    builds = {
        la.build: la for layer in layers.values() for each in launches(layer.clone()).values() for la in each
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda la: cubin(la.code, dict(la.build.constants), be.capability), builds.values()))
    watch, rng = pycuda_watch(be), np.random.default_rng(0)
    host = rng.standard_normal((*SHAPE, BATCH), np.float32)
    lines, x = [f"| rung, µs on {be.device_name} | fprop | bprop |", "|---|---:|---:|"], be.array(host)
    for name, layer in layers.items():
        for rung in layer.children or (layer,):
            agrees(rung, backend)
        net = Net(layer.clone(), SHAPE, BATCH, backend=be)
        dx, dy = be.zeros(x.shape), be.array(rng.standard_normal(net.y.shape, np.float32))
        phases = (  # the layer by itself: a net also copies x and clears gradients
            lambda net=net: net.graph.fprop(x, net.y),
            lambda net=net, dy=dy, dx=dx: net.graph.bprop(x, dy, dx),
        )
        lines.append(
            f"| {name} | " + " | ".join(f"{measure(watch, call, True) * 1e6:.1f}" for call in phases) + " |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def agrees(layer: Any, backend: str) -> None:
    """Raise unless a rung computes what GaussianPool does, on fewer channels and samples."""
    from minet import testing

    (window, stride, pad), rng = layer.window[:3], np.random.default_rng(1)
    twin = GaussianPool(window, stride, pad, layer.kernels, learn=layer.learn, edge=layer.edge)
    shape = (2, *SHAPE[1:])
    x, dy = (rng.standard_normal((*s, 4), np.float32) for s in (shape, twin.out_shape(shape)))
    got, want = (testing.run(pool.clone(), x, dy, backend=backend) for pool in (layer, twin))
    for name in ("y", "dx", *got.grads):
        have, expected = (
            getattr(run, name) if name in ("y", "dx") else run.grads[name] for run in (got, want)
        )
        close = 1e-4 * max(float(np.abs(expected).max()), 1e-6)
        np.testing.assert_allclose(have, expected, rtol=0, atol=close, err_msg=f"{layer!r}: {name}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ladder", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--time", action="store_true", help="measure on a card")
    make = timed if parser.parse_args(arguments).time else table
    print("\n".join([*make(one_kernel()), "", *make(three_kernels())]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
