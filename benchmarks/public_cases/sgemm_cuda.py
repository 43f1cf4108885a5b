"""SGEMM_CUDA: a matrix product, step by step faster."""

from __future__ import annotations

from typing import Any

from benchmarks.public_cases.case import Case, Made, normal


def sgemm(m: int = 128, n: int = 128, k: int = 64) -> Made:
    a, b, c = normal(m, k), normal(k, n, seed=1), normal(m, n, seed=2)
    return (m, n, k, 0.5, a, b, 2.0, c), [(c, 0.5 * (a.astype(float) @ b) + 2.0 * c)]


def gemm(file: str, name: str, grid: Any, block: Any) -> Case:
    return Case("siboehm+SGEMM_CUDA", f"src/kernels/{file}", name, grid, block, sgemm, include=("src",),
                rtol=1e-3, atol=1e-3)  # fmt: skip


CASES = [
    gemm("1_naive.cuh", "sgemm_naive", (4, 4), (32, 32)),
    gemm("2_kernel_global_mem_coalesce.cuh", "sgemm_global_mem_coalesce<32>", (4, 4), 1024),
    gemm("3_kernel_shared_mem_blocking.cuh", "sgemm_shared_mem_block<32>", (4, 4), 1024),
    gemm("4_kernel_1D_blocktiling.cuh", "sgemm1DBlocktiling<64, 64, 8, 8>", (2, 2), 512),
    gemm("5_kernel_2D_blocktiling.cuh", "sgemm2DBlocktiling<64, 64, 8, 8, 8>", (2, 2), 64),
    gemm("6_kernel_vectorize.cuh", "sgemmVectorize<64, 64, 8, 8, 8>", (2, 2), 64),
    gemm("6_kernel_vectorize.cuh", "sgemmVectorize<128, 128, 8, 8, 8>", (1, 1), 256),
    gemm("8_kernel_bank_extra_col.cuh", "sgemmResolveBankExtraCol<128, 128, 8, 8, 8>", (1, 1), 256),
]
