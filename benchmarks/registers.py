"""Registers and memory of every CUDA kernel: `python -m benchmarks.registers [WORD ...]`.

There is no list of kernels and the constants they are compiled with. Instead, the layers' and the losses'
examples, GaussianPool's standard windows, the layers that `minet bench` times, and a training step of every
model run on a backend that computes nothing and records what it is asked for. nvcc then compiles each
geometry for one architecture, a file's largest for all of them, and its smallest with 64-bit indices too:
everything for all would take several times as long. A WORD selects rows that contain it. It needs no GPU. The
exit status is 1 if any kernel spills registers, keeps arrays in local memory, or causes a warning.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from minet import Adam, Net, layers
from minet.backends import cuda_source, cuda_toolkit, kernel_cache
from minet.backends.cpu import HostMemory
from minet.backends.cuda_source import Source
from minet.backends.cuda_toolkit import OPTIONS
from minet.backends.gpu import GPU
from minet.backends.kernel_cache import Recipe
from minet.backends.nvidia import nvcc
from minet.bench.cases import DEFAULT
from minet.core import loss as losses
from minet.core.files import shipped
from minet.core.loss import Loss
from minet.layers import GaussianPool, all_layers, conv_tiles
from minet.train import modelfile

ARCHITECTURES = (75, 80, 90, 100)
ONE = 90  # every geometry is compiled for it
WINDOWS, STRIDES, KERNELS = (3, 5, 7, 11, 15), (1, 2), (1, 3)  # of GaussianPool
FAR = [  # windows of GaussianPool, strides and kernels at its limits, or far from square
    ((1, 401), (1, 160), 1), ((401, 1), (160, 1), 3), ((512, 512), 1, 1), ((1, 512), 1, 4), ((512, 1), 1, 9),
    ((15, 15), 1, 4), ((16, 3), 1, 3), ((3, 16), 2, 3), ((1, 15), 1, 7), ((4, 15), 1, 7), ((5, 15), 1, 7),
    ((8, 15), 1, 5), (3, 1, 8),
]  # fmt: skip
VERBOSE = ("--resource-usage", "-Xptxas", "-warn-spills,-warn-lmem-usage")


class Noting(HostMemory, GPU):
    """Records each source with the constants it would be compiled with, and launches nothing."""

    name = "noting"

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.noted: dict[Build, Source] = {}

    def recipe(self, code: Source, constants: dict[str, Any]) -> Recipe:
        return cuda_toolkit.recipe(code, constants, (ONE // 10, ONE % 10))

    def load(self, code: Source, constants: dict[str, Any]) -> None:
        self.noted[Build(code.path, tuple(sorted(constants.items())))] = code

    def start(self, *args: Any, **options: Any) -> None:
        pass

    def address(self, array: Any) -> int:
        return 0

    def empty(self, shape: Any, dtype: Any = None) -> np.ndarray:
        return np.zeros(shape, dtype or self.dtype)  # no NaN, which would stop a training step

    def gemm(self, *args: Any, **kwargs: Any) -> None:
        pass


@dataclass(frozen=True)
class Build:
    """A .cu file and the constants it is compiled with."""

    path: Path
    constants: tuple[tuple[str, Any], ...]

    @property
    def size(self) -> int:
        """A measure of size, to find the largest and smallest build of a file."""
        return sum(int(value) for _, value in self.constants if isinstance(value, (int, np.integer)))

    def __str__(self) -> str:
        constants = " ".join(f"{name}={int(v) if isinstance(v, bool) else v}" for name, v in self.constants)
        return f"{self.path.name} {constants}".rstrip()


@dataclass
class Row:
    """One kernel of a build: registers by architecture, bytes of shared and local memory, warnings."""

    build: Build
    kernel: str
    registers: dict[int, int] = field(default_factory=dict)
    shared: int = 0
    local: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return not self.local and not self.warnings

    def __str__(self) -> str:
        counts = "".join(f"{self.registers.get(arch, ''):>5}" for arch in ARCHITECTURES)
        bad = [f"{self.local} bytes of local memory"] if self.local else []
        return f"{counts}{self.shared:>8}  {'; '.join([self.kernel, *bad, *self.warnings])}"


def collected() -> dict[Build, Source]:
    """Return the builds that layers, models and the backend need; other files get no constants."""
    be = Noting()
    for cls in all_layers():
        for make, in_shape in cls.examples():
            for batch in (1, 4):  # with four, threads take several samples at once
                step(Net(make(), in_shape, batch, backend=be))
    for window in WINDOWS:
        for stride in STRIDES:
            for kernels in KERNELS:
                layer = GaussianPool(window, stride, window // 2, kernels)
                step(Net(layer, (2, 2 * window, 2 * window), 4, backend=be))
    for window, stride, kernels in FAR:
        layer = GaussianPool(window, stride, kernels=kernels)
        height, width = layer.window.size
        step(Net(layer, (1, 2 * height, 2 * width), 4, backend=be))
    for case in DEFAULT:
        if not case.is_model:
            layer = getattr(layers, case.layer)(**case.settings)
            step(Net(layer, case.shape[:3], 4, backend=be))
    for name in modelfile.names():
        model = modelfile.load(name)
        net = Net(model.net(), model.input_shape, 4, model.loss, backend=be)
        net.train_step(be.zeros((*model.input_shape, 4)), np.zeros(4, int), model.solver())
        Adam(clip_norm=1.0).update(net)
        step(net)
    for loss in vars(losses).values():
        own = isinstance(loss, type) and issubclass(loss, Loss) and loss is not Loss
        for make, shape, labels in loss.examples() if own else ():
            y = be.zeros((*shape, labels.shape[-1]))
            be.started(make().on(be), "loss", y, labels, y)
    images = [tile._replace(FLAT=flat) for tile in conv_tiles.IMAGE_TILES.values() for flat in (0, 1)]
    # All tiles: which of them a layer runs depends on its sizes.
    for file, tiles in (("conv", images), ("conv_dw", conv_tiles.WEIGHT_TILES.values())):
        for tile, be.tf32 in product(tiles, (False, True)):
            be.load(cuda_source.read(cuda_source.own(file)), tile.on(be)._asdict() | {"LANES": 4})
    seen = {build.path for build in be.noted}
    for path in sorted(shipped("kernels").glob("*.cu")):
        if path not in seen:
            be.load(cuda_source.read(path), {})
    return be.noted


def step(net: Net) -> None:
    """Run fprop and bprop, in training and in evaluation; on a whole batch, and on a part of one."""
    for part in (None, (1, 2 * net.batch)):
        net.clock.part = part
        for train in (True, False):
            net.fprop(net.be.zeros((*net.input_shape, net.batch)), train=train)
            net.bprop(net.dy, net.be.zeros((*net.input_shape, net.batch)))
    net.clock.part = None


def measured(builds: dict[Build, Source]) -> list[Row]:
    """Compile each build for one architecture, and for each file one for all and one with 64-bit indices."""
    ordered = sorted(builds, key=lambda build: (build.size, str(build)))
    largest = {build.path: build for build in ordered if not dict(build.constants).get("TF32")}  # from 8.0 on
    smallest = {build.path: build for build in reversed(ordered)}
    jobs = [(b, ARCHITECTURES if largest[b.path] == b else (ONE,), builds[b]) for b in reversed(ordered)]
    for build in smallest.values():
        jobs.append((Build(build.path, (*build.constants, ("WIDE", 1))), (ONE,), builds[build]))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the work is nvcc's
        rows = pool.map(lambda job: compiled_rows(*job), jobs)
        return sorted((row for some in rows for row in some), key=lambda row: (str(row.build), row.kernel))


def compiled_rows(build: Build, architectures: Iterable[int], code: Source) -> list[Row]:
    """Compile a build; return a row for each of its kernels, from nvcc's report."""
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in architectures]
    options = ["-fatbin", *targets, *OPTIONS, *VERBOSE, *cuda_source.defines(dict(build.constants))]
    output = kernel_cache.compiler_output(kernel_cache.build(nvcc(), options, code.text, ".cu", ".fatbin"))
    return parsed(build, output)


def parsed(build: Build, output: str) -> list[Row]:
    """Parse the output of ptxas into rows; a warning that names no kernel goes to the first."""
    rows: dict[str, Row] = {}
    row, arch, warnings = Row(build, ""), 0, []
    for line in output.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)' for 'sm_(\d+)", line):
            row, arch = rows.setdefault(found[1], Row(build, found[1])), int(found[2])
        elif "warning" in line:
            warnings.append(line.strip())
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", line):
            row.local = max(row.local, int(found[1]), int(found[2]))
        elif found := re.search(r"Used (\d+) registers", line):
            row.registers[arch] = int(found[1])
            shared = re.search(r"(\d+) bytes smem", line)
            row.shared = max(row.shared, int(shared[1]) if shared else 0)
    for line in dict.fromkeys(warnings):
        named = [row for name, row in rows.items() if f"'{name}'" in line]
        for row in named or list(rows.values())[:1]:
            row.warnings.append(line)
    return list(rows.values())


def table(rows: Iterable[Row]) -> str:
    """Format registers by compute capability, bytes of shared memory and problems, grouped by build."""
    lines, above = (
        ["".join(f"{arch // 10}.{arch % 10}".rjust(5) for arch in ARCHITECTURES) + "  shared"],
        None,
    )
    for row in rows:
        if row.build != above:
            lines += ["", str(row.build)]
            above = row.build
        lines.append(str(row))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.registers", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("word", nargs="*", help="show rows that contain one of these")
    words = parser.parse_args(arguments).word
    if not nvcc():
        print("no nvcc found; it comes with the CUDA toolkit", file=sys.stderr)
        return 2
    start = time.perf_counter()
    rows = measured(collected())
    shown = [row for row in rows if not words or any(w in f"{row.build} {row}" for w in words)]
    print(table(shown))
    bad = [row for row in shown if not row.fits]
    print(f"\n{len(shown)} kernels in {time.perf_counter() - start:.0f} s; {len(bad)} spill or warn")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
