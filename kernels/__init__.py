"""The hot loops, one file for each layer, named by its stem. README.md tells the conventions."""

import os
from functools import partial

from numba import njit

# Idle OpenMP threads sleep instead of spinning: a spinning one keeps a core from BLAS's threads, and a matrix
# product between two kernels then takes 10 times as long. Read when Numba starts its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# contract: fused multiply-add; reassoc: sums along N in SIMD lanes; nsz, arcp: cheap and harmless. Not nnan
# or ninf: a NaN must come out as a NaN. The order of a sum is fixed at compile time, so bits repeat.
MATH = {"contract", "reassoc", "nsz", "arcp"}

kernel = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath=MATH)
parallel_kernel = partial(kernel, parallel=True)
