"""Instructions of a kernel for each element of x: `python -m benchmarks.instructions`.

Bytes alone do not determine what a GPU can reach. In a cycle, a multiprocessor starts an instruction for 128
threads, and a kernel may take more cycles for its instructions than memory takes for its bytes. nvcc compiles
the kernels of the table in docs/gpu.md, nvdisasm lists them, and this module counts the instructions of the
loop that reads and writes images, without what comes before it. It prints the instructions for each x, and
the least time in which an H100 SXM can start those for every x of the table, by its published clock and
number of multiprocessors. It needs no GPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.registers import VERBOSE, Build, Noting, step
from minet import Layer, Net
from minet.backends import cuda_source, kernel_cache
from minet.backends.cuda_source import Source
from minet.backends.cuda_toolkit import OPTIONS
from minet.backends.nvidia import nvcc, wheel
from minet.core.files import run_file
from minet.layers import AvgPool, Elementwise, GaussianPool, MaxPool, PReLU, StochasticPool

ROOT = Path(__file__).parents[1]
PER_SECOND = 132 * 128 * 1.98e9  # an H100 SXM's multiprocessors, threads of each, cycles
PIXELS = 64 * 32 * 32 * 128  # elements of x in the table
LAYERS = {
    "gaussian_pool 3x3 s2 k1": GaussianPool(3, 2, 1),
    "gaussian_pool 11x11 s2 k1": GaussianPool(11, 2, 5),
    "gaussian_pool 11x11 s2 k3": GaussianPool(11, 2, 5, kernels=3),
    "max_pool 3x3 s2": MaxPool(3, 2, 1),
    "avg_pool 3x3 s2": AvgPool(3, 2, 1),
    "avg_pool 11x11 s2": AvgPool(11, 2, 5),
    "stochastic_pool 3x3 s2": StochasticPool(3, 2, 1),
    "prelu": PReLU(),
    "the same from an expression": Elementwise("where(x > 0, x, a * x)", a=0.25),
    "examples/swish": run_file(ROOT / "examples/swish.py").Swish(),
    "swish from an expression": Elementwise("x * sigmoid(b * x)", b=1.0),
}


def nvdisasm() -> str:
    """Return the path of nvdisasm: next to nvcc, on PATH, or in its wheel; empty if not found."""
    places = (str(Path(nvcc()).parent), None, str(Path(wheel(), "bin")))
    return next(filter(None, (shutil.which("nvdisasm", path=place) for place in places)), "")


def listing(layer: Layer) -> tuple[str, dict[str, int]]:
    """Return the machine code of a layer's kernels for a batch of four, and the constants compiled in."""
    be = Noting()
    step(Net(layer, (2, 32, 32), 4, backend=be))
    build, code = next((b, code) for b, code in be.noted.items() if b.path.stem.startswith(layer.stem()))
    return machine_code(cubin(build, code)), dict(build.constants)


def cubin(build: Build, code: Source) -> Path:
    """Compile a build for compute capability 9.0."""
    options = ["-cubin", "-arch=sm_90", *OPTIONS, *VERBOSE, *cuda_source.defines(dict(build.constants))]
    return kernel_cache.build(nvcc(), options, code.text, ".cu", ".cubin")


@cache
def machine_code(cubin: Path) -> str:
    """List a cubin's machine code."""
    done = subprocess.run([nvdisasm(), "-c", str(cubin)], capture_output=True, text=True, check=True)
    return done.stdout


def kernels(text: str) -> Iterator[tuple[str, list[str], dict[str, int]]]:
    """Yield each kernel of a listing: its name, its instructions, and the positions of its labels."""
    for part in re.split(r"(?m)^\.text\.", text)[1:]:
        lines: list[str] = []
        labels = {}
        for line in part.splitlines():
            if found := re.match(r"(\.L_x_\d+):", line):
                labels[found[1]] = len(lines)
            elif found := re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
                lines.append(found[1])
        yield part.partition(":")[0], lines, labels


def loop(lines: list[str], labels: dict[str, int]) -> int:
    """Count the instructions of the innermost loop that writes, the one with most reads."""
    jumps = [(i, re.search(r"BRA.*`\((\.L_x_\d+)\)", line)) for i, line in enumerate(lines)]
    loops = [(labels[f[1]], i + 1) for i, f in jumps if f and f[1] in labels and labels[f[1]] <= i]
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    found = {}
    for begin, end in inner:
        reads, writes = (sum(word in line for line in lines[begin:end]) for word in ("LDG", "STG"))
        if writes:
            found[reads] = end - begin
    return found[max(found)]


def counted(layer: Layer) -> dict[str, float]:
    """Return the instructions for each element of x, by phase."""
    text, constants = listing(layer)
    lanes, rows, columns = (constants.get(name, 1) for name in ("LANES", "SY", "SX"))
    # One iteration of bprop covers SY rows of x in these two, SX columns in the others.
    marches = layer.stem() in ("gaussian_pool", "avg_pool")
    pixels = {"fprop": lanes * rows * columns, "bprop": lanes * (rows if marches else columns)}
    found = {name: (lines, labels) for name, lines, labels in kernels(text)}
    return {phase: loop(*found[f"{layer.stem()}_{phase}"]) / count for phase, count in pixels.items()}


def main() -> int:
    if not nvcc() or not nvdisasm():
        print("needs nvcc and nvdisasm: pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm", file=sys.stderr)
        return 2
    print(f"{'instructions for each x':<34}{'fprop':>7}{'bprop':>7}    least µs, of {PIXELS} x's")
    for name, layer in LAYERS.items():
        each = counted(layer)
        least = "".join(f"{count * PIXELS / PER_SECOND * 1e6:7.1f}" for count in each.values())
        print(f"{name:<34}" + "".join(f"{count:7.1f}" for count in each.values()) + f"    {least}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
