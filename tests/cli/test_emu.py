"""`minet emu`: a CUDA file's kernels, their parameters, and whether they can run here."""

import pytest
from typer.testing import CliRunner

from minet.cli.main import app

FILE = r"""#include <helper_cuda.h>
template <class T, int B> __global__ void reduce(const T *x, T *y, int n) {
    __shared__ T s[B];
    s[threadIdx.x] = x[threadIdx.x];
    y[0] = s[n];
}
namespace ns {
__global__ void __launch_bounds__(N) scale(float4 v, float *out, unsigned char n = 3) { *out = v.x * n; }
}
__global__ void gemm(int *a) {
    nvcuda::wmma::fragment<int> f;
}
__device__ int lane() { int n; asm("mov.u32 %0, %%laneid;" : "=r"(n)); return n; }
__global__ void of_lane(int *y) { *y = *y ? lane() : 1; }
int main() { of_lane<<<1, 1>>>(nullptr); }
"""


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.cu").write_text(FILE)


def emu(*args):
    return CliRunner().invoke(app, ["emu", *args])


def test_each_kernel_is_listed_with_what_it_can():
    done = emu("some.cu", "-D", "N=64")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "some.cu:2: template <class T, int B> __global__ void reduce(const T *x, T *y, int n)",
        '  a template: name one of it, "some.cu::reduce<float, 32>"',
        "some.cu:8: ns::scale(float4 v, float *out, unsigned char n)",
        "  runs here",
        "some.cu:10: gemm",
        "  cannot run here: some.cu:11: the emulator does not model tensor cores: 'nvcuda'",
        "some.cu:14: of_lane(int *y)",
        "  runs here",
        "  but stops if it comes to some.cu:13: the emulator does not model inline assembly: 'asm'",
        "headers that were not found, and taken as empty: helper_cuda.h",
    ]


def test_one_kernel_of_a_template():
    done = emu("some.cu::reduce<double, 32>")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == [
        "some.cu:2: reduce<double, 32>(const double *x, double *y, int n)",
        "  runs here; shared memory: 256 bytes",
    ]


def test_a_named_kernel_that_cannot_run_is_status_1_and_none_is_2():
    assert emu("some.cu::gemm").exit_code == 1
    done = emu("some.cu::lane")
    assert done.exit_code == 2 and "has no kernel lane" in done.stderr and "of_lane" in done.stderr
    assert emu("other.cu").exit_code == 2


def test_a_file_without_kernels_says_so(tmp_path):
    (tmp_path / "none.cu").write_text("int x;\n")
    assert emu("none.cu").stdout == "none.cu has no kernels\n"
