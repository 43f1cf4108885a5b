"""Kernels of smaller repositories, and of NVIDIA's samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.public_cases.case import UINT, Case, F, Made, normal, zeros


def flash(n: int = 64, d: int = 16, tile: int = 32) -> Made:
    q, k, v, y = (normal(1, 2, n, d, seed=i) for i in range(4))
    total, most = zeros(1, 2, n), np.full((1, 2, n), -np.inf, F)
    s = np.einsum("bhnd,bhmd->bhnm", q, k).astype(float) / np.sqrt(d)
    e = np.exp(s - s.max(3, keepdims=True))
    y[:] = 0
    wanted = (e / e.sum(3, keepdims=True)) @ v
    args = (q, k, v, n, d, n // tile, n // tile, tile, tile, float(F(1 / np.sqrt(d))), total, most, y)
    return args, [(y, wanted)]


def add2(n: int = 300) -> Made:
    a, b, c = normal(n), normal(n, seed=1), zeros(n)
    return (c, a, b, n), [(c, a + b)]


def vector_add(n: int = 300) -> Made:
    (c, a, b, n), expected = add2(n)
    return (a, b, c, n), expected


def product(n: int = 64) -> Made:
    a, b, c = normal(n, n), normal(n, n, seed=1), zeros(n, n)
    return (c, a, b, n, n), [(c, a.astype(float) @ b)]


def transposed(n: int = 64) -> Made:
    x, y = normal(n, n), zeros(n, n)
    return (y, x, n, n), [(y, x.T)]


def reduced(n: int = 512, blocks: int = 8) -> Made:
    x, y = normal(n), zeros(blocks)
    return (x, y, n), [(y, x.reshape(blocks, -1).sum(1, dtype=float))]


def dot(vectors: int = 3, n: int = 512) -> Made:
    a, b, c = normal(vectors, n), normal(vectors, n, seed=1), zeros(vectors)
    return (c, a, b, vectors, n), [(c, (a.astype(float) * b).sum(1))]


def half_dot(n: int = 512) -> Made:
    a, b = (np.random.default_rng(i).integers(-2, 3, (n, 2)).astype(np.float16) for i in (0, 1))
    y, each = zeros(2), (a.astype(float) * b).sum(1)
    taken = [[t + 128 + block + 256 * k for t in range(128) for k in (0, 1)] for block in (0, 1)]
    return (a, b, y, n), [
        (y, [sum(each[i] for i in rows if i < n) for rows in taken])
    ]  # as the sample counts


def votes(n: int = 64) -> Made:
    x, y = (np.arange(n, dtype=UINT) % 40 > 31).astype(UINT), zeros(n, kind=UINT)
    return (x, y, n), [(y, np.repeat(x.reshape(-1, 32).any(1), 32))]


def fenced(n: int = 512) -> Made:
    x, y = normal(n), zeros(4)
    return (x, y, n), [(y[:1], [x.sum(dtype=float)])]


def sample(file: str, name: str, grid: Any, block: Any, make: Callable[[], Made], **more: Any) -> Case:
    return Case(
        "NVIDIA+cuda-samples", f"Samples/{file}", name, grid, block, make, include=("Common",), **more
    )


INTRO, CONCEPTS = "0_Introduction/", "2_Concepts_and_Techniques/"
REDUCE, TRANSPOSE = f"{CONCEPTS}reduction/reduction_kernel.cu", "6_Performance/transpose/transpose.cu"
CASES = [
    Case("tspeterkim+flash-attention-minimal", "flash.cu", "forward_kernel", (1, 2), 32, flash, shared=10240),
    Case("godweiyang+NN-CUDA-Example", "kernel/add2_kernel.cu", "add2_kernel", 2, 128, add2),
    sample(f"{INTRO}vectorAdd/vectorAdd.cu", "vectorAdd", 3, 128, vector_add),
    sample(f"{INTRO}matrixMul/matrixMul.cu", "MatrixMulCUDA<16>", (4, 4), (16, 16), product),
    sample(f"{INTRO}fp16ScalarProduct/fp16ScalarProduct.cu", "scalarProductKernel_native", 2, 128, half_dot),
    sample(f"{INTRO}simpleVoteIntrinsics/simpleVoteIntrinsics.cu", "VoteAnyKernel1", 1, 64, votes),
    sample(TRANSPOSE, "transposeCoalesced", (2, 2), (32, 16), transposed),
    sample(TRANSPOSE, "transposeNoBankConflicts", (2, 2), (32, 16), transposed),
    sample(TRANSPOSE, "transposeDiagonal", (2, 2), (32, 16), transposed),
    sample(REDUCE, "reduce2<float>", 8, 64, reduced, shared=256),
    sample(REDUCE, "reduce6<float, 64, true>", 4, 64, lambda: reduced(blocks=4), shared=256),
    sample(f"{CONCEPTS}scalarProd/scalarProd.cu", "scalarProdGPU", 2, 64, dot),
    sample(f"{CONCEPTS}threadFenceReduction/threadFenceReduction.cu", "reduceSinglePass<128, true>", 2, 128,
           fenced, shared=512),
]  # fmt: skip
