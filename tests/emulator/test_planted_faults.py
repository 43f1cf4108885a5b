"""Faults planted into kernels: each is found, with its line; what is no fault is told as what it is."""

import re

import numpy as np
import pytest

from minet import MinetError
from minet.emulator import RawKernel

ORDERS = ("forward", "reversed", "shuffled")
F = np.float32
FAULTS = r"""
__global__ void past(float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = 1;  // past
}
__global__ void before(const float *x, float *y) {
    y[threadIdx.x] = x[(int)threadIdx.x - 1];  // before
}
__global__ void shared_race(float *y) {
    __shared__ float s[64];
    s[threadIdx.x] = 0;
    __syncthreads();
    s[threadIdx.x] = threadIdx.x;  // shared_race
    y[threadIdx.x] = s[63 - threadIdx.x];  // shared_race
}
__global__ void global_race(float *y) {
    y[0] += threadIdx.x;  // global_race
}
__global__ void between_blocks(float *y) {
    y[blockIdx.x] = 1;  // between_blocks
    if (blockIdx.x) y[blockIdx.x - 1] = 2;  // between_blocks
}
__device__ int counter;
__global__ void device_race(int *y) {
    y[threadIdx.x] = counter++;  // device_race
}
__global__ void unwritten(float *y) {
    __shared__ float s[64];
    if (threadIdx.x < 32) s[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];  // unwritten
}
__global__ void divergent(float *y) {
    if (threadIdx.x < 32) __syncthreads();  // divergent
    y[threadIdx.x] = 1;
}
__global__ void misaligned(const float *x, float *y) {
    float4 v = *(const float4 *)(x + threadIdx.x);  // misaligned
    y[threadIdx.x] = v.x;
}
__device__ unsigned done;
__global__ void no_fence(const float *x, volatile float *part, float *y) {
    part[blockIdx.x] = x[blockIdx.x];  // no_fence
    if (atomicInc(&done, gridDim.x - 1) == gridDim.x - 1) {
        float sum = 0;
        for (int b = 0; b < gridDim.x; b++) sum += part[b];  // no_fence
        *y = sum;
    }
}
__global__ void late_fence(const float *x, volatile float *part, float *y) {
    part[2 * blockIdx.x] = x[blockIdx.x];
    __threadfence();
    part[2 * blockIdx.x + 1] = x[blockIdx.x];  // late_fence
    if (atomicInc(&done, gridDim.x - 1) == gridDim.x - 1) {
        float sum = 0;
        for (int b = 0; b < 2 * gridDim.x; b++) sum += part[b];  // late_fence
        *y = sum;
    }
}
__global__ void fence(const float *x, volatile float *part, float *y) {
    part[blockIdx.x] = x[blockIdx.x];
    __threadfence();
    if (atomicInc(&done, gridDim.x - 1) == gridDim.x - 1) {
        float sum = 0;
        for (int b = 0; b < gridDim.x; b++) sum += part[b];
        *y = sum;
    }
}
__global__ void divides(int *y) {
    y[threadIdx.x] = 7 / (int)threadIdx.x;  // divides
}
"""


def floats(n):
    return np.arange(n, dtype=F)


CASES = {  # arguments, grid, block, what is said
    "past": (lambda: (floats(40)[:33], 33), 2, 32, "a write of 4 bytes.*right past the end of y"),
    "before": (
        lambda: (floats(40)[4:36], floats(32)),
        1,
        32,
        "a read of 4 bytes.*before the start of x",
    ),
    "shared_race": (lambda: (floats(64),), 1, 64, "a race: two threads access the same place"),
    "global_race": (lambda: (floats(1),), 1, 32, r"a race: .*: y\[0\]"),
    "between_blocks": (
        lambda: (floats(4),),
        4,
        1,
        r"a race: .*: y\[\d\].*block \(\d, 0, 0\).*block \(\d, 0, 0\)",
    ),
    "device_race": (lambda: (np.zeros(32, np.int32),), 1, 32, r"a race: .*: counter\[0\]"),
    "unwritten": (
        lambda: (floats(64),),
        1,
        64,
        "a read of shared memory that no thread of the block has written",
    ),
    "divergent": (lambda: (floats(64),), 1, 64, "a barrier that not all threads of the block reach"),
    "misaligned": (
        lambda: (floats(64), floats(8)),
        1,
        8,
        "a read of 16 bytes of x at an address that is not a mul",
    ),
    "no_fence": (lambda: (floats(8), floats(8), floats(1)), 8, 1, r"a race: .*: part\[\d\]"),
    "late_fence": (lambda: (floats(8), floats(16), floats(1)), 8, 1, r"a race: .*: part\[\d+\]"),
    "divides": (lambda: (np.zeros(4, np.int32),), 1, 4, "a division by zero"),
}


def lines(name):
    """The lines of FAULTS with a kernel's mark."""
    return [n for n, text in enumerate(FAULTS.split("\n"), 1) if text.endswith(f"// {name}")]


@pytest.mark.sweep(7)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CASES)
def test_a_planted_fault_is_found_on_its_line(name, order):
    args, grid, block, said = CASES[name]
    with pytest.raises(MinetError) as error:
        RawKernel(FAULTS, name).check(order=order)(grid, block, args())
    assert re.search(said, error.value.message, re.DOTALL) and error.value.message.startswith(
        f"{name} on the emu"
    )
    found = {int(n) for n in re.findall(r"source\.cu:(\d+),", error.value.message)}
    assert found and found <= set(lines(name))


HINTS = {  # who races, or what goes wrong: a word of the hint
    "y[0] = threadIdx.x;": "__syncwarp",
    "if (threadIdx.x % 32 == 0) y[0] = threadIdx.x;": "between them, give each",
    "if (threadIdx.x == 0) y[0] = blockIdx.x;": "no barrier orders two blocks",
    "if (threadIdx.x < 8) __shfl_sync(~0u, 1, 0); __syncthreads();": "the mask must name only",
    "y[0] = (y[1] + 70000) * 70000;": "a wider type",
    "y[0] = 1 / y[1];": "the divisor",
    "y[0] = 1 << (y[1] + 32);": "less than the type's bits",
    "int a[4] = {}; y[0] = a[y[1] + 4];": "the index arithmetic",
}


@pytest.mark.parametrize("body", HINTS)
def test_a_hint_is_about_what_was_found(body):
    with pytest.raises(MinetError) as caught:
        RawKernel(f"__global__ void f(int *y) {{ {body} }}", "f")(2, 64, (np.zeros(64, np.int32),))
    assert HINTS[body] in caught.value.hint


ABSENT = """#include <cooperative_groups.h>
__global__ void f(int *y, int n) {
    int i = threadIdx.x, sum = i;
    if (i >= n) return;
    for (int by = 16; by; by /= 2)
        sum += __shfl_down_sync(~0u, sum, by);
    if (i == 0) *y = sum;
}
__global__ void tile(int *y, int n) {
    if (threadIdx.x >= n) return;
    int last = cooperative_groups::tiled_partition<32>(cooperative_groups::this_thread_block()).shfl(7, 31);
    if (threadIdx.x == 0) *y = n < 16 ? last : 1;
}"""


@pytest.mark.parametrize(("name", "n", "line"), [("f", 20, 6), ("tile", 8, 11)])
def test_a_shuffle_from_a_lane_that_has_ended_is_found_if_a_result_depends_on_it(name, n, line):
    y = np.full(1, 5, np.int32)
    with pytest.raises(MinetError, match=rf"a shuffle reads a lane that has ended.*\n  source.cu:{line}, "):
        RawKernel(ABSENT, name)(1, 32, (y, n))
    assert y == 5


def test_a_shuffle_from_a_lane_that_is_not_there_may_be_discarded():
    y = np.zeros(1, np.int32)
    RawKernel(ABSENT, "f")(1, 32, (y, 32))
    assert y == sum(range(32))
    RawKernel(ABSENT, "f")(1, 40, (y, 40))  # the second warp has 8 lanes
    assert y == sum(range(32))
    RawKernel(ABSENT, "tile")(1, 32, (y, 16))
    assert y == 1


def test_noise_of_a_lane_that_is_not_there_is_no_fault_of_the_kernel():
    source = """__global__ void f(int *y) {
    int other = __shfl_down_sync(~0u, 1, 8);
    int table[2] = {3, 4}, at = threadIdx.x ? table[other > 0 && other < 2] / other : 0;
    if (threadIdx.x == 0) *y = other + at;
}"""
    y = np.zeros(1, np.int32)
    RawKernel(source, "f")(1, 12, (y,))  # other noise divides by zero, in lanes that write nothing
    assert y == 1


def test_what_is_deleted_twice_is_at_the_kernels_line():
    source = "__global__ void f(int *y) {\n    int *p = new int[2];\n    delete[] p;\n    delete[] p;\n}"
    with pytest.raises(MinetError, match=r"(?s)free\(\) of what no malloc.*\n  source.cu:4, "):
        RawKernel(source, "f")(1, 1, (np.zeros(1, np.int32),))


@pytest.mark.parametrize("order", ORDERS)
def test_a_fence_after_each_write_is_enough(order):
    x, y = floats(8), floats(1)
    RawKernel(FAULTS, "fence").check(order=order)(8, 1, (x, floats(8), y))
    assert y == 28


# -- what is no fault, or not for everybody ---------------------------------------------------------------

SAME = """__global__ void f(const float *x, int *y) {
    if (x[threadIdx.x] > 3) *y = 1;
}"""


def test_writes_of_the_same_value_are_told_as_that_and_allowed():
    kernel, x, y = RawKernel(SAME, "f"), floats(32), np.zeros(1, np.int32)
    with pytest.raises(
        MinetError, match=r"(?s)a race of one value: two threads write the same.*y\[0\].*cu:2,"
    ) as error:
        kernel(1, 32, (x, y))
    assert "same_value_writes" in error.value.hint and y == 0
    for order in ORDERS:
        kernel.check(order, allow=("same_value_writes",))(2, 32, (x, y))
    assert y == 1


def test_writes_of_different_values_are_never_allowed():
    source = SAME.replace("= 1", "= threadIdx.x")
    with pytest.raises(MinetError, match=r"f on the emulator: a race: two threads"):
        RawKernel(source, "f").check(allow="same_value_writes")(1, 32, (floats(32), np.zeros(1, np.int32)))


DISCARDED = """__global__ void f(const float *x, float *y, int n) {
    __shared__ float s[64];
    if (threadIdx.x < n) s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float v = s[threadIdx.x];
    y[threadIdx.x] = threadIdx.x < n ? v : 0;
}"""


def test_unwritten_values_that_are_discarded_are_told_as_that_and_allowed():
    kernel, x, y = RawKernel(DISCARDED, "f"), floats(64), np.ones(64, F)
    with pytest.raises(MinetError, match=r"(?s)has written; its value is discarded.*source.cu:5,") as error:
        kernel(1, 64, (x, y, 50))
    assert "discarded_reads" in error.value.hint and (y == 1).all()
    kernel.check(allow="discarded_reads")(1, 64, (x, y, 50))
    assert y.tolist() == [*range(50), *[0] * 14]


def test_unwritten_values_that_reach_a_result_are_never_allowed():
    with pytest.raises(MinetError, match=r"that no thread of the block has written\n"):
        RawKernel(DISCARDED.replace("threadIdx.x < n ? v : 0", "v"), "f").check(allow="discarded_reads")(
            1, 64, (floats(64), floats(64), 50)
        )


# -- the sanitizers ---------------------------------------------------------------------------------------


def test_uninitialised_locals_are_found_with_the_line_that_writes_them():
    source = """__global__ void f(const float *x, float *y, int n) {
    float most;
    for (int i = 0; i < n; i++)
        if (!i || x[i] > most) most = x[i];
    y[threadIdx.x] = most;
}"""
    kernel, y = RawKernel(source, "f").check(sanitize=True), floats(4)
    with pytest.raises(
        MinetError, match=r"(?s)depends on an uninitialised variable\n  y\[0\], written at source.cu:5,"
    ):
        kernel(1, 4, (floats(8), y, 0))
    assert y.tolist() == [0, 1, 2, 3]
    kernel(1, 4, (floats(8), y, 8))
    assert y.tolist() == [7] * 4


@pytest.mark.slow
def test_what_runs_under_the_sanitizers_writes_the_same():
    source = """__constant__ float factor;
__device__ int calls;
template <class T> __global__ void f(const T *x, T *const *y, float2 by) {
    __shared__ T s[32];
    s[threadIdx.x] = x[threadIdx.x] * by.y * factor;
    __syncthreads();
    y[0][threadIdx.x] = s[31 - threadIdx.x];
    if (y[1]) y[1][threadIdx.x] = 1;
    if (threadIdx.x == 0) atomicAdd(&calls, 1), printf("ran");
}"""
    kernel, whole = RawKernel(source, "f<double>"), np.zeros(40)
    kernel.get_global("factor")[...] = 2
    for sanitize in (False, True):
        kernel.check(sanitize=sanitize)(1, 32, (np.arange(32.0), [whole[4:36], None], (0, 3)))
        assert whole[4:36].tolist() == [6 * (31 - i) for i in range(32)] and not whole[:4].any()
        whole[:] = 0
    assert kernel.get_global("calls") == 2


def test_faults_are_found_under_the_sanitizers_too():
    source = "__global__ void f(float *y) {\n  float a[4];\n  for (int i = 0; i < 4; i++) a[i] = i;\n"
    source += "  y[threadIdx.x] = *(a + (int)y[0]);\n}"
    with pytest.raises(MinetError, match=r"(?s)f on the emulator: .*source.cu:4"):
        RawKernel(source, "f").check(sanitize=True)(1, 1, (np.full(1, 4, F),))


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory_that_no_code_writes_is_unwritten(order):
    source = "__global__ void f(float *y) {\n    __shared__ float s[32];\n    y[0] = s[threadIdx.x];\n}"
    with pytest.raises(MinetError, match=r"(?s)that no thread of the block has written.*source.cu:3,"):
        RawKernel(source, "f").check(order)(1, 32, (floats(32),))
