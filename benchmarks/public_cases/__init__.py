"""The kernels of `benchmarks.public_kernels`, by repository."""

from benchmarks.public_cases import llm_c, others, pointnet2, sgemm_cuda
from benchmarks.public_cases.case import COMMITS, Case

__all__ = ["CASES", "COMMITS", "Case"]

CASES = [*llm_c.CASES, *pointnet2.CASES, *sgemm_cuda.CASES, *others.CASES]
