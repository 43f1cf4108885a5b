"""What `minet emu` says of a file's kernels."""

from minet.emulator.overview import entries

SEVERAL = """#include <curand_kernel.h>
namespace cuda { template <class T> __device__ void add(T *y) { *y += 1; } }
namespace own { namespace cuda { template <class T> __device__ void add(T *y) { *y += 1; } } }
__global__ void f(int *y) { *y = 1; }
__global__ void f(float *y) { *y = 1; }
template <class T> __global__ void g(T *y) { *y = 1; }
template <> __global__ void g<int>(int *y) { *y = 2; }
template <class T> __global__ void draw(T *y) { curandState s; curand_init(1, 2, 3, &s); *y = curand(&s); }
template <class T> __global__ void more(T *y) { cuda::add(y), own::cuda::add(y); }
template <class T> __global__ void wait(T *y) { cuda::barrier<cuda::thread_scope_block> b; }
"""


def test_each_kernel_is_listed_once_as_what_it_can_do(tmp_path):
    (tmp_path / "several.cu").write_text(SEVERAL)
    found, missing = entries(tmp_path / "several.cu", "", ())
    assert not missing
    assert [one.signature for one in found[:2]] == ["f(int *y)", "f(float *y)"]
    assert [one.example for one in found[2:]] == ["g<float>", "draw<float>", "more<float>", "wait<float>"]
    assert [one.why_not for one in found[:-1]] == [""] * 5
    assert found[-1].why_not.endswith("10: the emulator does not model libcu++: 'cuda::barrier'")
