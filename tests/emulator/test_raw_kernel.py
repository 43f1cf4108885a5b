"""RawKernel: how a kernel is called, what it may be called with, and what is refused."""

import ctypes
import os
import re
import time

import numpy as np
import pytest

from minet import MinetError
from minet.emulator import RawKernel, module, reading

MANY = r"""
template <class T, int B> __global__ void reduce(const T *x, T *y, int n) {
    __shared__ T s[B];
    int i = blockIdx.x * B + threadIdx.x;
    s[threadIdx.x] = i < n ? x[i] : T(0);
    __syncthreads();
    for (int h = B / 2; h; h /= 2) {
        if (threadIdx.x < h) s[threadIdx.x] += s[threadIdx.x + h];
        __syncthreads();
    }
    if (threadIdx.x == 0) y[blockIdx.x] = s[0];
}
struct Place { float weight; short step; };
namespace ns {
__global__ void __launch_bounds__(64) of_struct(Place p, float4 v, float *out, int n = 3) {
    out[threadIdx.x] = p.weight * p.step + v.x + v.w * n;
}
}
__constant__ float table[2][3];
__device__ int count, from[2] = {1, 2};
__global__ void globals(float *y) {
    y[threadIdx.x] = table[threadIdx.x / 3][threadIdx.x % 3] + from[1];
    atomicAdd(&count, 1);
}
__global__ void add(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += x[i];
}
__global__ void rows(float **rows, const double *const *more, int n) {
    for (int r = 0; r < n; r++) rows[r][threadIdx.x] = more[r] ? more[r][threadIdx.x] : -1;
}
__global__ void types(unsigned long long a, long unsigned int b, signed char c, const unsigned d, bool e,
                      int64_t f, size_t g, double *y) {
    y[0] = a, y[1] = b, y[2] = c, y[3] = d, y[4] = e, y[5] = f, y[6] = g;
}
__global__ void dynamic(float x[], int n) {
    extern __shared__ float room[];
    room[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = room[n - 1 - threadIdx.x];
}
"""
PLACE = np.dtype({"names": ["weight", "step"], "formats": ["f4", "i2"], "itemsize": 8})


def kernel(name, source=MANY, **settings):
    return RawKernel(source, name, **settings)


def line(code, source=MANY):
    """Where the source has this code first, as a regular expression."""
    return f"source.cu:{source[: source.index(code)].count(chr(10)) + 1},"


@pytest.fixture
def xy():
    return np.arange(8, dtype=np.float32), np.ones(8, np.float32)


def test_a_kernel_is_called_with_arrays_and_numbers(xy):
    x, y = xy
    kernel("add")((2,), (4,), (x, y, 7))
    assert y.tolist() == [1, 2, 3, 4, 5, 6, 7, 1]
    kernel("add")(2, 4, [x, y, np.int64(8)], 0)
    assert y[7] == 8


def test_a_template_is_named_with_its_arguments():
    x, y = np.arange(70, dtype=np.float32), np.zeros(3, np.float32)
    kernel("reduce<float, 32>")((3,), (32,), (x, y, 70))
    assert y.tolist() == [496, 1520, 399]
    x, y = np.arange(16), np.zeros(1, np.int64)
    kernel("reduce<long, 16>")(1, 16, (x, y, 16))
    assert y == 120


def test_a_template_without_arguments_is_refused():
    with pytest.raises(MinetError, match=r'(?s)reduce is a template.*"reduce<float, 32>"'):
        kernel("reduce").compile()
    with pytest.raises(MinetError, match=r"(?s)there is no reduce<float>.*it is template <class T, int B>"):
        kernel("reduce<float>").compile()


@pytest.mark.parametrize(
    "place",
    [
        np.array((1.5, 2), PLACE)[()],
        np.array((1.5, 2), PLACE)[()].tobytes(),
        type("P", (ctypes.Structure,), {"_fields_": [("w", ctypes.c_float), ("s", ctypes.c_short)]})(1.5, 2),
    ],
    ids=["void", "bytes", "ctypes"],
)
def test_structs_and_vectors_are_passed_by_value(place):
    y = np.zeros(3, np.float32)
    kernel("ns::of_struct")(1, 3, (place, (1, 2, 3, 4), y, 3))
    assert y.tolist() == [16] * 3


def test_a_struct_of_another_size_is_refused():
    with pytest.raises(MinetError, match=r"(?s)Place p.*Place has 8 bytes"):
        kernel("ns::of_struct")(1, 1, (b"1234", (1, 2, 3, 4), np.zeros(1, np.float32), 3))
    with pytest.raises(MinetError, match=r"(?s)float4 v.*float4 has 4 numbers"):
        kernel("ns::of_struct")(1, 1, (bytes(8), (1, 2), np.zeros(1, np.float32), 3))


def test_every_spelling_of_a_number_has_its_size():
    y = np.zeros(7)
    kernel("types")(1, 1, (2**53, 2**33, -5, 2**32 - 1, True, -(2**40), 7, y))
    assert y.tolist() == [2**53, 2**33, -5, 2**32 - 1, 1, -(2**40), 7]


def test_a_number_that_its_type_cannot_hold_is_refused(xy):
    for value in (2**31, 1.5, float("nan"), float("inf")):
        with pytest.raises(MinetError, match=r"(?s)int n.*from -2147483648 to 2147483647"):
            kernel("add")(1, 1, (*xy, value))
    with pytest.raises(MinetError, match="add takes int n, got '3'"):
        kernel("add")(1, 1, (*xy, "3"))


def test_lists_of_arrays_are_pointers_to_pointers():
    a, b, more = np.zeros(4, np.float32), np.zeros(4, np.float32), np.arange(4.0)
    kernel("rows")(1, 4, ([a, b], [more, None], 2))
    assert a.tolist() == [0, 1, 2, 3] and b.tolist() == [-1] * 4


def test_variables_of_the_file_are_arrays():
    one, y = kernel("globals"), np.zeros(6, np.float32)
    one.get_global("table")[:] = np.arange(6).reshape(2, 3)
    one(1, 6, (y,))
    assert y.tolist() == [2, 3, 4, 5, 6, 7]
    assert one.get_global("count") == 6 and one.get_global("from").tolist() == [1, 2]
    assert kernel("globals").get_global("count") == 0  # another kernel has its own
    with pytest.raises(MinetError, match=r"(?s)no __device__ or __constant__ variable tabel.*table\?"):
        one.get_global("tabel")


def test_a_variables_size_may_have_brackets():
    source = """#define R 2
__constant__ float taps[(2 * R + 1)], more[sizeof(float) * (R)][R];
__global__ void f(float *y) { y[threadIdx.x] = taps[threadIdx.x] + more[7][1]; }"""
    one = RawKernel(source, "f")
    one.get_global("taps")[:] = range(5)
    one.get_global("more")[7, 1] = 10
    y = np.zeros(5, np.float32)
    one(1, 5, (y,))
    assert y.tolist() == [10, 11, 12, 13, 14]


def test_a_slice_ends_where_it_does():
    whole = np.zeros(100, np.float32)
    for x, y, side in [
        (whole[:4], whole[10:13], "past the end of y"),
        (whole[5:8], whole[8:12], "past the end of x"),
    ]:
        with pytest.raises(MinetError, match=f"(?s)a read of 4 bytes.*right {side}.*{line('y[i] += x[i]')}"):
            kernel("add")(1, 4, (x, y, 4))
    assert not whole.any()


def test_arrays_that_overlap_do_so_in_the_kernel():
    x = np.ones(6, np.float32)
    kernel("add")(1, 1, (x[:4], x[2:], 1))
    assert x.tolist() == [1, 1, 2, 1, 1, 1]


def test_dynamic_shared_memory_has_the_size_of_the_call(xy):
    kernel("dynamic")(1, 8, (xy[0], 8), shared_mem=32)
    assert xy[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    with pytest.raises(MinetError, match=rf"(?s)a write of 4 bytes.*{line('room[thr')}.*thread \(7,"):
        kernel("dynamic")(1, 8, (xy[0], 8), shared_mem=28)


DYNAMIC = [
    "extern __shared__ float s[32];",
    "__shared__ extern volatile float s[];",
    "extern __shared__ __align__(sizeof(float4)) float s[];",
    "extern __align__(8) __shared__ float s[];",
    "extern __shared__ alignas(alignof(float4)) float s[];",
    "extern __shared__ std::conditional<(sizeof(int) > 2), float, int>::type s[];",
]


@pytest.mark.parametrize("declared", DYNAMIC)
def test_dynamic_shared_memory_however_it_is_declared(declared):
    source = f"""__global__ void f(float *y) {{
    {declared}
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[3 - threadIdx.x];
}}"""
    y = np.zeros(4, np.float32)
    RawKernel(source, "f")(1, 4, (y,), shared_mem=16)
    assert y.tolist() == [3, 2, 1, 0]
    with pytest.raises(MinetError, match=r"(?s)a write of 4 bytes.*source.cu:3, block .*thread \(3,"):
        RawKernel(source, "f")(1, 4, (y,), shared_mem=12)


@pytest.mark.parametrize("declared", ["__shared__ alignas(16)", "alignas(16) __shared__"])
def test_shared_memory_may_be_aligned(declared):
    source = f"__global__ void f(int *y) {{ {declared} float s[4]; s[0] = 1; *y = (size_t)s % 16 + s[0]; }}"
    y = np.zeros(1, np.int32)
    RawKernel(source, "f")(1, 1, (y,))
    assert y == 1


def test_a_header_of_the_system_may_redefine_extern(tmp_path):
    (tmp_path / "gl.h").write_text("#pragma GCC system_header\n#define extern extern\n")
    body = "{ extern __shared__ int s[]; s[0] = 7; *y = s[0]; }"
    y = np.zeros(1, np.int32)
    RawKernel(f'#include "gl.h"\n__global__ void f(int *y) {body}', "f", ("-I", str(tmp_path)))(1, 1, (y,), 4)
    assert y == 7


def test_another_version_of_minet_leaves_out_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("MINET_CACHE", str(tmp_path))
    source = "__host__ void other() { nothing::like_this(); }\n__global__ void f(int *y) { *y = 7; }"
    RawKernel(source, "f").compile()
    monkeypatch.setattr(module, "_written", lambda: "another")
    reading._read.clear()
    RawKernel(source, "f").compile()
    assert len(list(tmp_path.rglob("*.left_out"))) == 2


def test_after_a_fault_the_arrays_are_what_they_were(xy):
    x, y = xy
    with pytest.raises(MinetError, match="past the end of x"):
        kernel("add")(1, 32, (x, np.ones(32, np.float32), 32))
    with pytest.raises(MinetError, match="past the end of x"):
        kernel("add")(1, 8, (x[:4], y, 8))
    assert y.tolist() == [1] * 8


def test_a_file_is_read_again_when_it_has_changed(tmp_path):
    file, y = tmp_path / "f.cu", np.zeros(1, np.float32)
    file.write_text("__global__ void f(float *y) { *y = 1; }")
    RawKernel(str(file), "f")(1, 1, (y,))
    file.write_text("__global__ void f(float *y) { *y = N; }")
    RawKernel(file, "f", ("-DN=5",))(1, 1, (y,))
    assert y == 5


def test_options_reach_the_compiler(tmp_path, monkeypatch):
    (tmp_path / "n.h").write_text("enum { N = 7 };\n")
    monkeypatch.chdir(tmp_path)
    y = np.zeros(1, np.float32)
    text = '#include "n.h"\n__global__ void f(float *y) { *y = N + M; }'
    RawKernel(text, "f", ("-I", ".", "-DM=2", "--std=c++14"))(1, 1, (y,))
    assert y == 9
    with pytest.raises(MinetError, match="options may be -D -U -I and -std, got '-O3'"):
        RawKernel(text, "f", ("-O3",))


def test_no_such_kernel_names_those_that_are_near():
    with pytest.raises(MinetError, match=r"(?s)source.cu has no kernel ad\b.*did you mean add"):
        kernel("ad").compile()
    with pytest.raises(MinetError, match=r"no_such.cu: no such file"):
        RawKernel("no_such.cu", "f").compile()
    with pytest.raises(MinetError, match="emu, got 'cuda'"):
        RawKernel(MANY, "add", backend="cuda")


def test_wrong_arguments_are_refused(xy):
    x, y = xy
    cases = [
        ((x, y), r"add takes 3 arguments, got 2.*add\(const float \*x, float \*y, int n\)"),
        ((x, y, 8, 9), "takes 3 arguments, got 4"),
        (x, "arguments as a tuple"),
        ((x.astype(np.float64), y, 8), r"const float \*x, got an array of float64.*an array of float32"),
        ((x, 3.0, 8), r"float \*y, got 3.0.*a NumPy array"),
        ((x[::2], y, 4), r"x is not contiguous: its strides are \(8,\).*ascontiguousarray"),
        ((x, y, x), r"int n, got an array of float32"),
    ]
    for args, said in cases:
        with pytest.raises(MinetError, match="(?s)" + said):
            kernel("add")(1, 1, args)


def test_a_read_only_array_is_for_const_parameters(xy):
    x, y = xy
    x.flags.writeable = False
    kernel("add")(1, 8, (x, y, 8))
    with pytest.raises(MinetError, match=r"(?s)y is read-only, but its parameter is float \*y.*pass a copy"):
        kernel("add")(1, 8, (y, x, 8))


def test_a_const_parameter_that_is_cast_away_is_found(xy):
    source = "__global__ void f(const float *x) { ((float *)x)[1] = 9; }"
    xy[0].flags.writeable = False
    with pytest.raises(MinetError, match="it wrote to x, which is read-only"):
        kernel("f", source)(1, 1, (xy[0],))
    assert xy[0][1] == 1


def test_launches_beyond_any_card_are_refused(xy):
    one, args = kernel("add"), (*xy, 8)
    for grid, block in [
        ((1,), (1025,)),
        (1, (1, 1, 65)),
        ((1, 65536), 1),
        ((0,), 8),
        (1, (8, 0)),
        (2**31, 1),
    ]:
        with pytest.raises(MinetError, match=r"(?s)cannot launch.*invalid configuration argument"):
            one(grid, block, args)
    with pytest.raises(MinetError, match="the grid has one to three sizes"):
        one((1, 1, 1, 1), 1, args)
    with pytest.raises(MinetError, match=r"grid must be whole numbers, got 1.5"):
        one(1.5, 1, args)


def test_more_dynamic_shared_memory_is_asked_for_as_of_a_driver():
    one, x = kernel("dynamic"), np.zeros(4, np.float32)
    with pytest.raises(MinetError, match=r"(?s)50000 bytes.*max_dynamic_shared_size_bytes = 50000"):
        one(1, 4, (x, 4), shared_mem=50000)
    one.max_dynamic_shared_size_bytes = 50000
    one(1, 4, (x, 4), shared_mem=50000)
    one.max_dynamic_shared_size_bytes = 300000
    with pytest.raises(MinetError, match=r"300000 bytes of shared memory.*too many"):
        one(1, 4, (x, 4), shared_mem=300000)


def test_static_shared_memory_has_nvccs_limit():
    source = """__global__ void f(float *y) {
        __shared__ float s[13000];
        for (int i = 0; i < 9; i++) s[i] = i;
        *y = s[(int)*y + 1];
    }"""
    with pytest.raises(MinetError, match=r"declares 52000 bytes of shared memory"):
        kernel("f", source)(1, 1, (np.zeros(1, np.float32),))
    y = np.zeros(1, np.float32)
    kernel("f", source.replace("13000", "12288"))(1, 1, (y,))
    assert y == 1
    other = source + source.replace("f(float", "g(float").replace("13000", "12")
    kernel("g", other)(1, 1, (y,))  # what another kernel of the file declares does not count
    assert y == 2


def test_an_endless_loop_ends_with_its_line():
    source = "__global__ void f(int *y) {\n  volatile int *v = y;\n  while (!*v)\n    ;\n}"
    with pytest.raises(MinetError, match=r"(?s)a loop that does not end.*source.cu:3"):
        kernel("f", source).check(most_branches=1 << 23)(1, 1, (np.zeros(1, np.int32),))


def test_parameters_are_what_the_compiler_says():
    assert [str(p) for p in kernel("dynamic").parameters] == ["float *x", "int n"]
    assert str(kernel("reduce<double, 8>").parameters[0]) == "const double *x"
    assert re.fullmatch(r"(unsigned long|long unsigned int) g", str(kernel("types").parameters[6]))


def test_settings_of_a_check_are_checked():
    one = kernel("add")
    with pytest.raises(MinetError, match="order must be one of forward, reversed, shuffled"):
        one.check(order="backward")
    with pytest.raises(MinetError, match="allow takes same_value_writes and discarded_reads, got 'all'"):
        one.check(allow="all")
    assert one.settings.order is None and one.check(order="reversed").settings.order == "reversed"
    both = one.check(order="shuffled").check(sanitize=True).settings
    assert (both.order, both.sanitize, both.allow) == ("shuffled", True, None)


def test_a_kernel_of_ten_thousand_threads_takes_seconds_not_minutes():
    source = """__global__ void f(float *y) {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        for (int k = 0; k < 100; k++) y[i] = y[i] * 0.5f + k;
    }"""
    one, y = kernel("f", source), np.zeros(10240, np.float32)
    one.compile()
    start = time.process_time()
    one(40, 256, (y,))
    assert time.process_time() - start < 20  # 0.1 s here; a quadratic search would take minutes


def test_the_pools_of_an_earlier_kernel_are_not_in_the_way():
    assert not os.environ.get("MINET_EMULATOR_SANITIZE")
    for order in ("forward", "reversed", "shuffled", "forward"):
        y = np.zeros(64, np.int32)
        write = "y[threadIdx.x] = threadIdx.x; __syncthreads(); y[63 - threadIdx.x]++;"
        source = f"__global__ void f(int *y) {{ {write} }}"
        kernel("f", source).check(order=order)(1, 64, (y,))
        assert y.tolist() == list(range(1, 65))


TWO_TYPES = """
struct S { float v; };
template <class T> __device__ T twice(T x) { return x * 2; }
template <class T> __global__ void k(T *y) { y[threadIdx.x] = twice(y[threadIdx.x]); }
"""


def test_what_one_instance_cannot_do_is_not_left_out_of_another():
    y = np.arange(3, dtype="float32")
    with pytest.raises(MinetError, match=r"k<S>"):
        RawKernel(TWO_TYPES, "k<S>")(1, 3, (y,))
    RawKernel(TWO_TYPES, "k<float>")(1, 3, (y,))
    assert y.tolist() == [0, 2, 4]


def test_a_struct_of_several_types_is_no_vector():
    source = "struct P { float x; int id; }; __global__ void k(P p, float *y) { y[0] = p.x + p.id; }"
    y = np.zeros(1, np.float32)
    with pytest.raises(MinetError, match="P"):
        RawKernel(source, "k")(1, 1, ((1.0, 3), y))
    given = np.zeros((), [("x", "f4"), ("id", "i4")])
    given["x"], given["id"] = 1, 3
    RawKernel(source, "k")(1, 1, (given.tobytes(), y))
    assert y[0] == 4


def test_kernels_of_one_name_in_two_namespaces():
    source = (
        "namespace a { __global__ void k(float *one) { *one = 1; } }"
        "namespace b { __global__ void k(int *two) { *two = 2; } }"
    )
    y = np.zeros(1, np.int32)
    RawKernel(source, "b::k")(1, 1, (y,))
    assert y[0] == 2
    with pytest.raises(MinetError, match="two"):
        RawKernel(source, "b::k")(1, 1, (np.zeros(1, np.float32),))


def test_after_a_fault_variables_are_as_they_were():
    found = RawKernel("__device__ int c = 1; __global__ void k(int *y) { c = 5; y[2] = 1; }", "k")
    with pytest.raises(MinetError, match="outside"):
        found(1, 1, (np.zeros(2, np.int32),))
    assert found.get_global("c") == 1


@pytest.mark.parametrize(
    ("kind", "value"), [("float", 1e300), ("int", 2**70), ("int", np.nan), ("int", np.inf)]
)
def test_a_number_that_does_not_fit_is_refused(kind, value):
    found = RawKernel(f"__global__ void k({kind} a, float *y) {{ y[0] = a; }}", "k")
    with pytest.raises(MinetError, match=f"{kind} holds"):
        found(1, 1, (value, np.zeros(1, np.float32)))


def test_infinity_and_nan_are_floats():
    found, y = RawKernel("__global__ void k(float a, float *y) { y[0] = a; }", "k"), np.zeros(1, np.float32)
    found(1, 1, (np.inf, y))
    assert y[0] == np.inf
    found(1, 1, (np.nan, y))
    assert np.isnan(y[0])


def test_comparisons_of_halves_with_a_nan():
    source = """
    #include <cuda_fp16.h>
    __global__ void k(const __half *x, int *y) {
        y[0] = __hne(x[0], x[1]); y[1] = __hneu(x[0], x[1]); y[2] = __hne(x[1], x[2]);
    }"""
    y = np.zeros(3, np.int32)
    RawKernel(source, "k")(1, 1, (np.array([np.nan, 1, 2], np.float16), y))
    assert y.tolist() == [0, 1, 1]


def test_a_header_that_has_changed_is_read_again(tmp_path):
    file, header, y = tmp_path / "f.cu", tmp_path / "value.h", np.zeros(1, np.int32)
    file.write_text('#include "value.h"\n__global__ void f(int *y) { *y = VALUE; }')
    for value in (1, 20):
        header.write_text(f"#define VALUE {value}\n")
        RawKernel(file, "f")(1, 1, (y,))
        assert y == value


# -- what is refused, and what to type --------------------------------------------------------------------

OVERLOADED = """namespace ns {
__global__ void clip(const float *x, float *y, float = 1.0f) { y[0] = x[0]; }
__global__ void clip(const double *x, double y[], double most) { y[0] = x[0] + most; }
}"""


def test_one_of_several_kernels_of_a_name_is_named_with_its_parameters():
    with pytest.raises(MinetError, match=r"(?s)2 kernels ns::clip.*name one: .*, or .*double \[\], double\)"):
        RawKernel(OVERLOADED, "ns::clip").compile()
    one, y = RawKernel(OVERLOADED, "ns::clip(const double*, double [], double)"), np.zeros(1)
    one(1, 1, (np.ones(1), y, 2.0))
    assert y == 3 and [parameter.name for parameter in one.parameters] == ["x", "y", "most"]


def test_what_is_not_a_template_is_named_without_arguments():
    with pytest.raises(MinetError, match=r'(?s)f is not a template.*name it "f"'):
        RawKernel("__global__ void f(int *y) { *y = 1; }", "f<int>").compile()


def test_a_function_that_is_not_modelled_is_named_with_a_way_out():
    with pytest.raises(MinetError, match=r"(?s)source.cu:1: .*CUDA: '__vadd4'.*test it on a GPU, or"):
        RawKernel("__global__ void f(int *y) { *y = __vadd4(1, 2); }", "f").compile()


def test_what_a_missing_header_has_is_no_matter_of_the_emulator():
    source = """#include <elsewhere.h>
template <class T> __device__ T twice(T x) { return __doubled(x); }
__global__ void f(int *y) { *y = twice(*y); }"""
    with pytest.raises(MinetError, match=r"(?s)__doubled.* was not declared.*not found.*: elsewhere.h"):
        RawKernel(source, "f")(1, 1, (np.zeros(1, np.int32),))


def test_an_unknown_type_is_told_as_that():
    with pytest.raises(MinetError, match=r"source.cu:1: .Node. (was not declared|has not been declared)"):
        RawKernel("__global__ void f(Node *y, int n) { y[n] = 1; }", "f").compile()


def test_an_error_within_the_emulators_headers_is_at_the_kernels_line():
    source = "\n__global__ void f(float4 *y) {\n    atomicMax(y, *y);\n}"
    with pytest.raises(MinetError, match=r"cannot run on the emulator: source.cu:3: "):
        RawKernel(source, "f").compile()
