"""Faults planted into public kernels: is each found, as what it is, on its line?

A plant is a small edit of one kernel in a copy of its file's folder. Here is only what the edit replaces, and
the words by which the lines are found that the emulator may name.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.public_cases import CASES, Case
from benchmarks.public_cases.case import Made, normal, zeros
from minet import MinetError
from minet.backends.emulator import ORDERS
from minet.emulator import RawKernel

SAID = {  # what the message must say, by kind of fault
    "overrun": "past the end of",
    "underrun in a larger array": "before the start of",
    "race on shared memory": r"a race: two threads access the same place, with",
    "race on global memory": r"a race: two threads access the same place: \w+\[\d+\]",
    "unwritten shared memory": "that no thread of the block has written",
    "divergent barrier": "a barrier that not all threads of the block reach",
    "missing fence": r"a race: two threads access the same place: \w+\[\d+\]",
    "misaligned vector": "at an address that is not a multiple of",
}
EDGE = 64  # elements of the larger array before and after each array


@dataclass(frozen=True)
class Plant:
    """A fault: the first `find` (or a later one) after the kernel's name becomes `new`.

    Attributes
    ----------
    kind, kernel : str
        Of `SAID`; the name of a case.
    find, new : str
    at : tuple of str
        Words of the lines that may be named, searched from the kernel's name on; after "^" from the file's
        start, and after "common.h: " in that file.
    nth : int
    file : str
        Where it is, if not in the case's file.
    """

    kind: str
    kernel: str
    find: str
    new: str
    at: tuple[str, ...]
    nth: int = 1
    file: str = ""


def layernorm_backward(b: int = 2, t: int = 4, c: int = 32, blocks: int = 2) -> Made:
    x, dy, w = normal(b * t, c), normal(b * t, c, seed=1), normal(c, seed=2)
    mean, rstd = x.mean(1), 1 / x.std(1)
    dx, dw, db, scratch = zeros(b * t, c), zeros(c), zeros(c), zeros(2 * c * blocks + 1)
    z = (x - mean[:, None]) * rstd[:, None]
    return (dx, dw, db, scratch, dy, x, w, mean, rstd, b, t, c), [(db, dy.sum(0)), (dw, (dy * z).sum(0))]


BACKWARD, LLM = "layernorm_backward_kernel5<float, float, float, float>", "karpathy+llm.c"
MORE = [Case(LLM, "dev/cuda/layernorm_backward.cu", BACKWARD, 2, 64, layernorm_backward, shared=65 * 4)]
PRODUCT = "scalarProd_kernel.cuh"
SYNC, GROUP_SYNC = "__syncthreads();", "cg::sync(cta);"
PLANTS = [
    Plant("overrun", "vectorAdd", "i < numElements", "i <= numElements", ("C[i] =",)),
    Plant("overrun", "three_nn_kernel", "k < m", "k <= m", ("known[k",)),
    Plant("overrun", "adamw_kernel2", "i >= num", "i > num", ("grads_memory[i]",)),
    Plant("underrun in a larger array", "layernorm_forward_kernel3", "x[i]", "x[i - 1]", ("x[i - 1]",)),
    Plant("underrun in a larger array", "three_interpolate_kernel", "3 + 0", "3 - 1", ("weight[j * 3 - 1]",)),
    Plant("underrun in a larger array", "sgemm_naive", "A[x", "A[-1 - (int)x", ("A[-1",)),
    Plant(
        "race on shared memory", "MatrixMulCUDA<16>", SYNC, ";", ("As[ty][tx]", "Bs[ty][tx]", "Csub +="), 2
    ),
    Plant("race on shared memory", "reduce2<float>", GROUP_SYNC, ";", ("sdata[tid] +=", "= sdata[0]"), 2),
    Plant(
        "race on shared memory",
        "sgemm_shared_mem_block<32>",
        SYNC,
        ";",
        ("As[threadRow", "Bs[threadRow", "tmp += As", "Bs[dotIdx"),
        2,
    ),
    Plant(
        "race on global memory",
        "group_points_grad_kernel",
        "atomicAdd(grad_points + l * n + ii,",
        "grad_points[l * n + ii] += (",
        ("grad_points[l", "grad_out[(l"),
    ),
    Plant("race on global memory", "layernorm_forward_kernel3", "= out + idx * C", "= out", ("__stcs(o+c",)),
    Plant(
        "unwritten shared memory",
        "sgemm1DBlocktiling<64, 64, 8, 8>",
        "Bs[innerRowB",
        "if (threadIdx.x) Bs[innerRowB",
        ("= Bs[dotIdx",),
    ),
    Plant(
        "unwritten shared memory",
        "matmul_backward_bias_kernel4",
        "smem[lane_id + warp",
        "if (warp_id) smem[lane_id + warp",
        ("+= smem[",),
    ),
    Plant(
        "unwritten shared memory",
        "scalarProdGPU",
        "iAccum < ACCUM_N",
        "iAccum < ACCUM_N - 1",
        ("accumResult[stride",),
        file=PRODUCT,
    ),
    Plant(
        "divergent barrier",
        "matmul_backward_bias_kernel1",
        SYNC,
        f"if (tid < 16) {SYNC}",
        (f"16) {SYNC}", f"    {SYNC}"),
    ),
    Plant(
        "divergent barrier", "reduce2<float>", GROUP_SYNC, f"if (tid < s) {GROUP_SYNC}", ("s) cg::sync",), 2
    ),
    Plant(
        "divergent barrier",
        "scalarProdGPU",
        GROUP_SYNC,
        f"if (threadIdx.x) {GROUP_SYNC}",
        ("x) cg::sync", "   cg::sync"),
        2,
        PRODUCT,
    ),
    Plant(
        "missing fence",
        "reduceSinglePass<128, true>",
        "__threadfence();",
        ";",
        ("^g_odata[blockIdx.x] =", "g_odata[i]"),
        file="threadFenceReduction_kernel.cuh",
    ),
    Plant(
        "missing fence",
        BACKWARD,
        "__threadfence();",
        ";",
        ("scratch_dbias[i + C", "scratch_dweight[i + C", "scratch_dbias[i + j", "scratch_dweight[i + j"),
    ),
    Plant(
        "misaligned vector",
        "residual_forward_kernel2",
        "inp1 + idx",
        "inp1 + idx + 1",
        ("common.h: __ldcs(re",),
    ),
    Plant(
        "misaligned vector",
        "sgemmResolveBankExtraCol<128, 128, 8, 8, 8>",
        "innerColA * 4]",
        "innerColA * 4 + 1]",
        ("innerColA * 4 + 1]",),
    ),
]


def table(folder: Path) -> str:
    """Plant each, run it in three orders; the lines that are right and those that are named, as Markdown."""
    rows = []
    for plant in PLANTS:
        case = next(one for one in [*CASES, *MORE] if one.name == plant.kernel)
        with tempfile.TemporaryDirectory() as copy:
            expected, found = _run(plant, case, folder / case.repository, Path(copy, "planted"))
        name = case.repository.split("+")[1]
        print(plant.kind, plant.kernel, expected, found, file=sys.stderr, flush=True)
        rows.append(f"| {plant.kind} | `{name}` | `{plant.kernel}` | {expected} | {found} |")
    head = ["| fault | repository | kernel | its lines | found |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _run(plant: Plant, case: Case, root: Path, copy: Path) -> tuple[str, str]:
    shutil.copytree((root / case.file).parent, copy)
    main = copy / Path(case.file).name
    file = copy / plant.file if plant.file else main
    options = [f"-I{root / part}" for part in case.include] + list(case.options)
    if wrong := [why for why in _said(main, options, case) if why]:
        return "", f"a fault before it was planted: {wrong[0]}"
    places = _plant(plant, file)
    shown, seen = _shown(places), set[tuple[str, int]]()
    for message in _said(main, options, case):
        if not re.search(SAID[plant.kind], message):
            return shown, f"no: {message or 'nothing is said'}"
        sides = [re.findall(r"([^\s/]+):(\d+)", line) for line in message.split("\n") if ", block" in line]
        named = [{(name, int(line)) for name, line in side} for side in sides if side]  # none: it had ended
        if not named or not all(side & places for side in named):
            return shown, f"on other lines: {message}"
        seen |= set().union(*named) & places
    return shown, f"{_shown(seen)} in all three orders"


def _shown(places: set[tuple[str, int]]) -> str:
    files = sorted({name for name, _ in places})
    return "; ".join(f"{f}:{', '.join(str(n) for name, n in sorted(places) if name == f)}" for f in files)


def _plant(plant: Plant, file: Path) -> set[tuple[str, int]]:
    """Edit the file; the files and lines on which the fault shows."""
    text, name = file.read_text(), plant.kernel.split("<")[0]
    begin = re.search(rf"__global__[^;{{]*?\b{name}\s*\(", text)
    assert begin, f"{file} has no {name}"
    at = begin.end()
    for _ in range(plant.nth):
        at = text.index(plant.find, at) + len(plant.find)
    text = text[: at - len(plant.find)] + plant.new + text[at:]
    file.write_text(text)
    return {_place(words, file, begin.end()) for words in plant.at}


def _place(words: str, file: Path, at: int) -> tuple[str, int]:
    if other := re.match(r"(\w+\.h): ", words):
        file, words, at = file.with_name(other[1]), words[other.end() :], 0
    text = file.read_text()
    found = text.index(words.removeprefix("^"), 0 if words[0] == "^" else at)
    return file.name, text.count("\n", 0, found) + 1


def _said(file: Path, options: list[str], case: Case) -> Iterator[str]:
    """The message in each order; empty if nothing is found."""
    for order in ORDERS:
        args = [_within(one) for one in case.make()[0]]
        kernel = RawKernel(file, case.name, options).check(order)
        kernel.max_dynamic_shared_size_bytes = 100_000
        try:
            kernel(case.grid, case.block, args, case.shared)
        except MinetError as error:
            yield error.message
        else:
            yield ""


def _within(value: Any) -> Any:
    """An array as a slice of a larger one, which has room on both sides."""
    if not isinstance(value, np.ndarray):
        return value
    larger = np.zeros(value.size + 2 * EDGE, value.dtype)
    inside = larger[EDGE:-EDGE].reshape(value.shape)
    inside[...] = value
    return inside
