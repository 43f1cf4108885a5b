"""Kernels run without a look at each access: the same bits, and what is noticed all the same."""

import re

import numpy as np
import pytest

from minet import MinetError
from minet.emulator import RawKernel

ORDERS = ("forward", "reversed", "shuffled")
F = np.float32
MIXED = """
__constant__ float by;
__device__ int calls;
__global__ void mixed(const float *x, float *y, int n) {
    __shared__ float s[64];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    s[threadIdx.x] = i < n ? expf(x[i]) * by + x[i] / 3 : 0;
    __syncthreads();
    float sum = 0;
    for (int k = 0; k < 64; k++) sum += s[(threadIdx.x + k) % 64];
    for (int half = 16; half; half /= 2) sum += __shfl_xor_sync(0xffffffff, sum, half);
    if (i < n) y[i] = sum;
    if (threadIdx.x == 0) {
        float *own = new float[4];
        own[3] = atomicAdd(&calls, 1);
        if (own[3] == 1) printf("second block");
        delete[] own;
    }
}"""


def f(body, n=0, before="", **settings):
    """Run a kernel of this body, unwatched, on the middle of an array."""
    whole = np.ones(96, F)
    kernel = RawKernel(f"{before}\n__global__ void f(float *y, int n) {{\n    {body}\n}}", "f")
    kernel.check(watch=False, **settings)(1, 32, (whole[32:64], n))
    return whole


def test_the_bits_are_the_same(capfd):
    x, found = np.random.default_rng(0).standard_normal(200).astype(F), []
    for how in [{}, *({"watch": False, "order": order} for order in ORDERS)]:
        kernel, y = RawKernel(MIXED, "mixed").check(**how), np.zeros(200, F)
        kernel.get_global("by")[...] = 0.7
        kernel(4, 64, (x, y, 200))
        assert kernel.get_global("calls") == 4
        found.append(y.tobytes())
    assert len(set(found)) == 1 and capfd.readouterr().out == "second block" * 4


def test_variables_are_the_same_for_both():
    kernel, x, y = RawKernel(MIXED, "mixed"), np.ones(64, F), np.zeros(64, F)
    calls = kernel.get_global("calls")
    for number, watch in enumerate([False, True, False], 1):
        kernel.check(watch=watch)(1, 64, (x, y, 64))
        assert calls == number
    calls[...] = 40
    kernel.check(watch=False)(1, 64, (x, y, 64))
    assert calls == 41


def test_a_fault_of_memory_is_not_looked_for():
    assert f("y[0] = threadIdx.x;")[32] == 31
    assert f("__shared__ float s[32]; if (n) s[n] = 1; y[threadIdx.x] = isnan(s[31 - threadIdx.x]);")[
        32:64
    ].all()
    assert f("y[threadIdx.x] = y[(int)threadIdx.x - 9] != 1;")[32:41].all()  # not the caller's memory


@pytest.mark.parametrize(
    "at, where", [("32", "past the end"), ("-1", "before the start"), ("159", "past the end")]
)
def test_a_write_just_outside_an_array_is_told_without_its_line(at, where):
    with pytest.raises(MinetError, match=f"f on the emulator: a write {where} of y") as error:
        f(f"y[{at}] = 2; y[n] = 3;")
    assert error.value.hint == "check(watch=True) finds the line"


@pytest.mark.parametrize(
    "body, said",
    [
        ("y[1l << 40] = 1;", "a write outside shared memory and the kernel's arrays"),
        ("y[0] = y[1l << 40];", "a read outside shared memory and the kernel's arrays"),
        ("y[0] = y[1l << 59];", "outside shared memory and the kernel's arrays"),
        ("float *p = (float *)(long)n; y[0] = *p;", "a read outside .*: a null pointer"),
        ("y[0] = 7 / n;", "a division by zero"),
        ("for (volatile int k = 0; k < 2; k *= 1) ;", "a loop that does not end"),
        ("if (threadIdx.x < 9) __syncthreads();", "a barrier that not all threads of the block reach"),
        ("assert(n == 1);", r"stopped: assert\(n == 1\)"),
    ],
)
def test_what_ends_a_launch_ends_it_with_its_line_and_not_the_process(body, said):
    with pytest.raises(MinetError, match=rf"f on the emulator: .*{said}") as error:
        f(body, most_branches=1 << 22)
    assert re.search(r"\n  source.cu:3, block \(0, 0, 0\), thread \(", error.value.message)
    assert (f("y[threadIdx.x] = n;", 5)[32:64] == 5).all()


def test_recursion_without_end_is_out_of_stack():
    deep = "__device__ __noinline__ int deep(volatile int *at, int n) {\n    volatile int a[64];\n"
    deep += "    a[n % 64] = n;\n    return deep(a, n + 1) + a[*at % 64];\n}"
    with pytest.raises(MinetError, match="out of stack"):
        f("volatile int z = 0; y[0] = deep(&z, 1);", before=deep)


def test_arrays_are_as_before_after_a_fault():
    y, kernel = np.ones(4, F), RawKernel("__global__ void f(float *y) { y[0] = 7; y[1l << 40] = 1; }", "f")
    with pytest.raises(MinetError, match="outside"):
        kernel.check(watch=False)(1, 1, (y,))
    assert (y == 1).all()


def test_the_sanitizers_look_all_the_same():
    with pytest.raises(MinetError, match="f on the emulator"):
        f("float a[4] = {}; y[0] = *(a + (int)y[0] * 5);", sanitize=True)
