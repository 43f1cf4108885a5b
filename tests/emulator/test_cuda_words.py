"""What public kernels use of CUDA, each with a kernel of its own and results worked out apart from it."""

import numpy as np
import pytest

from minet import MinetError
from minet.emulator import RawKernel

LANES = np.arange(32)
F = np.float32


def ran(body, size=32, dtype=np.int32, threads=None, before="", grid=1, shared=0, options=()):
    """What a kernel of this body leaves in `y`, with `i` the thread's number."""
    source = f"""{before}
__global__ void f({CUDA[np.dtype(dtype).str[1:]]} *y) {{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    {body}
}}"""
    y = np.zeros(size, dtype)
    RawKernel(source, "f", options)(grid, threads or min(size, 32), (y,), shared)
    return y.tolist()


CUDA = {"i4": "int", "u4": "unsigned", "f4": "float", "f8": "double", "i8": "long long",
        "u8": "unsigned long long", "u2": "unsigned short", "f2": "__half"}  # fmt: skip
GROUPS = """#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
namespace cg = cooperative_groups;"""


# -- cooperative groups -----------------------------------------------------------------------------------


def test_the_block_as_a_group():
    body = """auto block = cg::this_thread_block();
    __shared__ int s[64];
    s[block.thread_rank()] = block.thread_rank() + block.size() + block.group_index().x;
    block.sync();
    cg::sync(block);
    y[i] = s[63 - block.thread_rank()] + block.thread_index().x;"""
    assert ran(body, 64, threads=64, before=GROUPS) == [63 + 64] * 64


def test_tiles_of_a_block():
    body = """auto tile = cg::tiled_partition<8>(cg::this_thread_block());
    int sum = tile.thread_rank();
    for (int by = tile.size() / 2; by; by /= 2) sum += tile.shfl_down(sum, by);
    y[i] = tile.shfl(sum, 0) * 100 + tile.meta_group_rank() * 10 + tile.thread_rank();"""
    assert ran(body, 64, threads=64, before=GROUPS) == [2800 + n // 8 * 10 + n % 8 for n in range(64)]


def test_a_tile_shuffles_vectors():
    body = """auto tile = cg::tiled_partition<8>(cg::this_thread_block());
    float4 v = tile.shfl_xor(make_float4(i, i + 0.5f, i + 1, -i), 1);
    y[i] = v.x * 1000 + v.y * 2 - v.w;"""
    assert ran(body, before=GROUPS) == [(n ^ 1) * 1003 + 1 for n in range(32)]


def test_votes_of_a_tile_count_its_ranks():
    body = """auto tile = cg::tiled_partition<4>(cg::this_thread_block());
    y[i] = tile.ballot(tile.thread_rank() & 1) * 100 + tile.any(i == 5) * 10 + tile.all(i > 3);"""
    assert ran(body, 8, before=GROUPS) == [1000] * 4 + [1011] * 4


@pytest.mark.parametrize(
    ("operation", "expected"), [("plus", 28), ("less", 0), ("greater", 7), ("bit_xor", 0), ("bit_or", 7)]
)
def test_a_tile_is_reduced(operation, expected):
    body = f"""auto tile = cg::tiled_partition<8>(cg::this_thread_block());
    y[i] = cg::reduce(tile, (int)tile.thread_rank(), cg::{operation}<int>());"""
    assert ran(body, before=GROUPS) == [expected] * 32


def test_a_tile_is_scanned():
    body = """auto tile = cg::tiled_partition<16>(cg::this_thread_block());
    y[i] = cg::inclusive_scan(tile, 2) * 100 + cg::exclusive_scan(tile, 1, cg::plus<int>());"""
    before = GROUPS + "\n#include <cooperative_groups/scan.h>"
    assert ran(body, before=before) == [(n % 16 + 1) * 200 + n % 16 for n in range(32)]


def test_threads_that_have_met_are_a_group():
    body = """if (i % 3 == 0) {
        auto group = cg::coalesced_threads();
        y[i] = group.size() * 100 + group.thread_rank();
        y[i] += 10000 * cg::reduce(group, 1, cg::plus<int>());
    }"""
    assert ran(body, before=GROUPS) == [111100 + n // 3 if n % 3 == 0 else 0 for n in range(32)]


def test_an_aggregated_atomic_gives_each_thread_its_place():
    before = (
        GROUPS
        + """
__device__ int next;
__device__ int take(int *at) {
    cg::coalesced_group g = cg::coalesced_threads();
    int first;
    if (g.thread_rank() == 0) first = atomicAdd(at, g.size());
    return g.shfl(first, 0) + g.thread_rank();
}"""
    )
    assert sorted(ran("y[i] = i % 2 ? take(&next) : -1;", 64, threads=32, grid=2, before=before)) == [
        *[-1] * 32, *range(32)]  # fmt: skip


def test_a_group_is_parted_by_a_label_or_a_vote():
    body = """auto tile = cg::tiled_partition<32>(cg::this_thread_block());
    auto part = cg::labeled_partition(tile, i % 4);
    auto two = cg::binary_partition(tile, i < 10);
    y[i] = part.size() * 1000 + part.thread_rank() * 100 + two.size();"""
    expected = [8000 + n // 4 * 100 + (10 if n < 10 else 22) for n in range(32)]
    assert ran(body, before=GROUPS + "\nusing namespace cooperative_groups;") == expected


# -- warps ------------------------------------------------------------------------------------------------


def test_shuffles_of_before_volta():
    body = """y[i] = __shfl(i, 3) + 100 * __shfl_xor(i, 1) + 10000 * __shfl_down(i, 2);
    if (i < 16) y[i] += 1000000 * __popc(__ballot(1));"""
    down = [n + 2 if n < 30 else n for n in range(32)]
    expected = [3 + 100 * (n ^ 1) + 10000 * down[n] + 16000000 * (n < 16) for n in range(32)]
    assert ran(body) == expected


def test_activemask_is_of_those_who_are_there():
    assert ran("if (i & 1) y[i] = __activemask();", dtype=np.uint32) == [0, 0xAAAAAAAA] * 16


def test_matches_and_reductions_of_a_warp():
    body = """int all;
    y[i] = __popc(__match_any_sync(~0u, i / 5)) + 100 * __reduce_max_sync(~0u, i);
    y[i] += 10000 * (__match_all_sync(~0u, 7, &all) == ~0u) * all;"""
    assert ran(body) == [13100 + (5 if n < 30 else 2) for n in range(32)]


# -- memory -----------------------------------------------------------------------------------------------


def test_loads_and_stores_with_a_hint_for_the_cache():
    body = "y[i] = i; __stcs(y + i, __ldcs(y + i) + __ldg(y + i) + __ldcg(&y[i]));"
    body += "__stwt(y + i, __ldca(y + i) + 1);"
    assert ran(body) == [3 * n + 1 for n in range(32)]


@pytest.mark.parametrize("dtype", ["i4", "u8", "f8"])
def test_atomics_on_all_widths(dtype):
    kind = CUDA[dtype]
    body = f"""__shared__ {kind} sum, most, last;
    if (i == 0) sum = 0, most = 0, last = 0;
    __syncthreads();
    atomicAdd(&sum, ({kind})i);
    atomicExch(&last, ({kind})7);
    """ + ("atomicMax(&most, i), atomicMin(&y[1], -5 + 0 * i);" if dtype[0] == "i" else
           "atomicMax(&most, i);" if dtype[0] == "u" else "") + """
    __syncthreads();
    if (i == 0) y[0] = sum, y[2] = most, y[3] = last;"""  # fmt: skip
    expected = [496, -5 if dtype[0] == "i" else 0, 0 if dtype[0] == "f" else 31, 7]
    assert ran(body, 4, dtype, threads=32) == expected


def test_a_compare_and_swap_of_all_widths():
    for dtype in ("i4", "u4", "u8", "u2"):
        body = """if (i == 0) y[0] = 0;
        __syncthreads();
        for (int done = 0; !done;) {
            auto old = *(volatile decltype(y))y;
            done = atomicCAS(y, old, old + 2) == old;
        }"""
        assert ran(body, 1, dtype, threads=32) == [64]


def test_a_sum_of_doubles_by_compare_and_swap():
    before = """__device__ double add(double *at, double value) {
    unsigned long long int *bits = (unsigned long long int *)at, old = *bits, seen;
    do {
        seen = old;
        old = atomicCAS(bits, seen, __double_as_longlong(value + __longlong_as_double(seen)));
    } while (seen != old);
    return __longlong_as_double(old);
}"""
    assert ran("add(y, 0.5 * i);", 1, np.float64, 32, before) == [248]


def test_atomic_inc_and_dec_wrap_around():
    assert ran("atomicInc(&y[0], 4); atomicDec(&y[1], 4);", 2, np.uint32, 7) == [2, 3]


def test_memory_from_malloc_and_new():
    body = """int *a = (int *)malloc(4 * sizeof(int)), *b = new int[2];
    for (int k = 0; k < 4; k++) a[k] = i + k;
    b[1] = a[3];
    y[i] = b[1];
    free(a);
    delete[] b;"""
    assert ran(body) == [n + 3 for n in range(32)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("int *a = (int *)malloc(8); a[2] = 1; free(a);", "a write of 4 bytes outside"),
        (
            "int *a = new int[2]; delete[] a; y[i] = a[0];",
            "a read of 4 bytes of memory that a kernel has freed",
        ),
        ("void *a = malloc(4); free(a); free(a);", r"free\(\) of what no malloc\(\)"),
    ],
)
def test_faults_in_memory_from_malloc(body, said):
    with pytest.raises(MinetError, match=rf"(?s){said}.*source.cu:4,"):
        ran(body, 1)


# -- output -----------------------------------------------------------------------------------------------


def test_printf_prints(capfd):
    ran(r'if (i < 2) printf("%d of %s: %.2f\n", i, "two", i * 0.5);')
    assert capfd.readouterr().out == "0 of two: 0.00\n1 of two: 0.50\n"


def test_an_assertion_that_fails_is_named():
    for header in ("#include <assert.h>", "#include <cassert>", ""):
        with pytest.raises(
            MinetError, match=r"(?s)stopped: assert\(i < 3\).*source.cu:4,.*thread \(3, 0, 0\)"
        ):
            ran("assert(i < 3);", before=header)


# -- numbers ----------------------------------------------------------------------------------------------


ARITHMETIC = [
    ("__mul24(i - 3, 5)", "i4", [(n - 3) * 5 for n in range(32)]),
    ("__umul24(0xff000002u, 3)", "u4", [6] * 32),
    ("__brev(i)", "u4", [int(f"{n:032b}"[::-1], 2) for n in range(32)]),
    ("__brevll(1ull << i)", "u8", [1 << 63 - n for n in range(32)]),
    ("__double_as_longlong(i)", "i8", np.arange(32.0).view(np.int64).tolist()),
    ("isnan(sqrtf(i - 1.0f)) + 2 * isinf(1.0f / i) + 4 * isfinite((float)i)", "i4", [7, *[4] * 31]),
    ("FLT_MAX", "f4", [float(np.finfo(F).max)] * 32),
    ("FLT_EPSILON + INT_MAX % 2", "f8", [float(np.finfo(F).eps) + 1] * 32),
    ("dim3(i).y + dim3(1, 2).y + dim3(1, 2, 3).z", "i4", [6] * 32),
    ("make_longlong2(i, 1ll << 40).y", "i8", [1 << 40] * 32),
    ("make_ushort4(1, 2, 3, i).w + make_float1(2).x", "i4", [n + 2 for n in range(32)]),
    ("__funnelshift_l(0x80000000u, i, 1)", "u4", [2 * n + 1 for n in range(32)]),
    ("__byte_perm(0x33221100u, 0x77665544u, 0x7531)", "u4", [0x77553311] * 32),
    ("__dp4a(0x01020304, 0x01010101, i)", "i4", [10 + n for n in range(32)]),
    ("__float2int_rd(-0.5f) + __double2int_rn(2.5)", "i4", [1] * 32),
    ("__CUDA_ARCH__ >= 700", "i4", [1] * 32),
    ("__clz(i) + __ffs(i) + __popc(i)", "i4", [32 + (n & -n).bit_length() + n.bit_count() - n.bit_length()
                                               for n in range(32)]),
    ("fmaxf(i, 3) + fminf(i, 3) + max(i, 3) + min(i, 3)", "f4", [2 * n + 6 for n in range(32)]),
    ("rsqrtf(4.0f) + __fdividef(i, 2.0f) + __saturatef(i)", "f4", [0.5 + n / 2 + (n > 0) for n in range(32)]),
]  # fmt: skip


@pytest.fixture(scope="module")
def computed():
    """Each expression's 32 values, of one kernel: to compile it takes a second."""
    results = [np.zeros(32, dtype) for _, dtype, _ in ARITHMETIC]
    parameters = ", ".join(f"{CUDA[dtype]} *y{k}" for k, (_, dtype, _) in enumerate(ARITHMETIC))
    lines = "\n".join(f"y{k}[i] = {expression};" for k, (expression, _, _) in enumerate(ARITHMETIC))
    RawKernel(f"__global__ void f({parameters}) {{ int i = threadIdx.x; {lines} }}", "f")(1, 32, results)
    return results


@pytest.mark.parametrize("number", range(len(ARITHMETIC)), ids=[one[0] for one in ARITHMETIC])
def test_arithmetic(number, computed):
    assert computed[number].tolist() == ARITHMETIC[number][2]


def test_clock64_goes_on():
    assert ran("long long a = clock64(), b = clock64(); y[i] = b > a && clock() > 0;") == [1] * 32


def test_the_compiler_is_told_to_be_nvcc():
    before = (
        "#ifndef __CUDACC__\n#error not CUDA\n#endif\n#if !defined(__CUDA_ARCH__)\n#error no device\n#endif"
    )
    assert ran("y[i] = __CUDACC_VER_MAJOR__ >= 11;", before=before) == [1] * 32


def test_system_headers_may_be_in_quotes():
    names = (
        "cuda_runtime.h",
        "device_launch_parameters.h",
        "math.h",
        "stdio.h",
        "cuda_fp16.h",
        "vector_types.h",
    )
    before = "\n".join(f'#include "{name}"' for name in names)
    assert ran("y[i] = (int)sqrt((double)i * i);", before=before) == list(range(32))


def test_a_header_that_is_not_here_is_taken_as_empty():
    before = '#include <torch/extension.h>\n#include "helper_cuda.h"\n#include <ATen/ATen.h>'
    assert ran("y[i] = i;", before=before) == list(range(32))
    with pytest.raises(MinetError, match=r"(?s)source.cu:6.*CEIL.*not found.*helper_cuda.h"):
        ran("y[i] = CEIL(i, 2);", before=before)


# -- 16-bit numbers ---------------------------------------------------------------------------------------

HALVES = np.random.default_rng(0).standard_normal(256).astype(np.float16)
FP16 = "#include <cuda_fp16.h>"


def halves(body, *more):
    source = f"""{FP16}
__global__ void f(const __half *a, const __half *b, __half *y) {{ int i = threadIdx.x; {body} }}"""
    y = np.zeros(256, np.float16)
    RawKernel(source, "f")(1, 256, (HALVES, HALVES[::-1].copy(), y))
    return y


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("expression", "of"),
    [
        ("a[i] + b[i]", lambda a, b: a + b),
        ("__hmul(a[i], b[i])", lambda a, b: a * b),
        ("__hsub(a[i], b[i])", lambda a, b: a - b),
        ("__hdiv(a[i], b[i])", lambda a, b: a / b),
        ("hsqrt(__habs(a[i]))", lambda a, b: np.sqrt(abs(a))),
        ("__hmax(a[i], b[i])", np.maximum),
        ("__float2half(__half2float(a[i]) * 1e-5f)", lambda a, b: (a.astype(F) * F(1e-5)).astype(np.float16)),
        ("__hlt(a[i], b[i]) ? a[i] : __hneg(b[i])", lambda a, b: np.where(a < b, a, -b)),
    ],
)
def test_half_numbers_have_numpys_bits(expression, of):
    expected = of(HALVES, HALVES[::-1])
    assert halves(f"y[i] = {expression};").view(np.uint16).tolist() == expected.view(np.uint16).tolist()


def test_a_half_of_every_number_rounds_as_numpy():
    x = np.random.default_rng(1).integers(0, 1 << 32, 4096, np.uint32).view(F)
    x = np.concatenate([x, (np.arange(4096) * 2**-26).astype(F), np.linspace(65500, 65540, 64).astype(F)])
    x, y = x[~np.isnan(x)], np.zeros(x.size, np.float16)
    source = FP16 + "\n__global__ void f(const float *x, half *y, int n)"
    source += " { for (int i = threadIdx.x; i < n; i += 256) y[i] = __float2half_rn(x[i]); }"
    RawKernel(source, "f")(1, 256, (x, y, x.size))
    with np.errstate(over="ignore"):
        assert (y[: x.size].view(np.uint16) == x.astype(np.float16).view(np.uint16)).all()


def test_pairs_of_halves():
    body = """if (i < 128) {
        __half2 p = ((const __half2 *)a)[i], q = ((const half2 *)b)[i];
        ((__half2 *)y)[i] = __hfma2(p, q, __float2half2_rn(0.5f));
    }"""
    a, b = HALVES.astype(np.float64), HALVES[::-1].astype(np.float64)
    assert halves(body).view(np.uint16).tolist() == (a * b + 0.5).astype(np.float16).view(np.uint16).tolist()


def test_shared_arrays_of_halves_and_of_other_classes():
    source = (
        FP16
        + """
struct Pair { float a, b; Pair() = default; __device__ Pair(float a) : a(a), b(a) {} };
template <class T> __global__ void f(T *y) {
    __shared__ T s[32];
    T v(threadIdx.x + 1.0f);
    s[threadIdx.x] = v;
    __syncthreads();
    y[threadIdx.x] = s[31 - threadIdx.x];
}"""
    )
    y = np.zeros(32, np.float16)
    RawKernel(source, "f<half>")(1, 32, (y,))
    pairs = np.zeros(64, F)
    RawKernel(source, "f<Pair>")(1, 32, (pairs.view("V8"),))
    assert y.tolist() == list(range(32, 0, -1)) and pairs[::2].tolist() == y.tolist()
    with pytest.raises(MinetError, match=r"(?s)shared memory that no thread.*source.cu:8,"):
        RawKernel(source.replace("s[threadIdx.x] = v;", ""), "f<half>")(1, 32, (y,))


def bfloats(x):
    bits = np.ascontiguousarray(x, F).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(x):
    return (x.astype(np.uint32) << 16).view(F)


def test_bfloat16_numbers_round_to_nearest_even():
    a, b = (bfloats(np.random.default_rng(s).standard_normal(64)) for s in (2, 3))
    y = np.zeros(64, np.uint16)
    source = """#include <cuda_bf16.h>
__global__ void f(const __nv_bfloat16 *a, const __nv_bfloat16 *b, nv_bfloat16 *y) {
    int i = threadIdx.x;
    if (i < 32) y[i] = a[i] * b[i];
    else if (i % 2 == 0) {
        __nv_bfloat162 p = *(const __nv_bfloat162 *)(a + i);
        *(__nv_bfloat162 *)(y + i) = __hadd2(p, __halves2bfloat162(b[i], b[i + 1]));
    }
}"""
    RawKernel(source, "f")(1, 64, (a, b, y))
    expected = np.where(np.arange(64) < 32, widened(a) * widened(b), widened(a) + widened(b))
    assert y.tolist() == bfloats(expected).tolist()


def test_16_bit_numbers_are_passed_by_value_and_shuffled():
    source = FP16 + "\n#include <cuda_bf16.h>\n__global__ void f(half a, __nv_bfloat16 b, float *y)"
    source += " { y[threadIdx.x] = __half2float(__shfl_sync(~0u, a, 1)) + __bfloat162float(b); }"
    y = np.zeros(32, F)
    RawKernel(source, "f")(1, 32, (1.5, 3.14159, y))
    assert y.tolist() == [1.5 + 3.140625] * 32


# -- what is refused --------------------------------------------------------------------------------------

REFUSED = {
    "textures": "texture<float, 1> of; __global__ void f(int *y) { *y = tex1D(of, 1); }",
    "tensor cores": "__global__ void f(int *y) { nvcuda::wmma::fragment<int> a; }",
    "inline assembly": '__global__ void f(int *y) { asm volatile("mov.u32 %0, %laneid;" : "=r"(*y)); }',
    "libcu++": "__global__ void f(int *y) { cuda::atomic_ref<int> a(*y); }",
    "cub": "__global__ void f(int *y) { typedef cub::BlockReduce<int, 32> R; }",
    "launches from kernels": "__global__ void g() {}\n__global__ void f(int *y) { g<<<1, 1>>>(); }",
}


@pytest.mark.sweep(4)
@pytest.mark.parametrize("what", REFUSED)
def test_what_the_emulator_does_not_model_is_refused_by_name_and_line(what):
    source = "\n\n" + REFUSED[what] + "\n__global__ void h(int *y) { *y = 1; }"
    y = np.zeros(1, np.int32)
    at = 4 if what.startswith("launches") else 3
    with pytest.raises(
        MinetError, match=rf"(?s)source.cu:{at}: the emulator does not model {what.replace('+', '.')}"
    ):
        RawKernel(source, "f")(1, 1, (y,))
    RawKernel(source, "h")(1, 1, (y,))  # the file's other kernels run
    assert y == 1


def test_kernels_in_an_extern_c_block_are_found():
    source = """#include <no_such_header.h>
extern "C" {
static void host() { no_such_function(); }
__global__ void f(int *y) { *y = 3; }
}"""
    y = np.zeros(1, np.int32)
    RawKernel(source, "f")(1, 1, (y,))
    assert y == 3


def test_what_is_not_compiled_is_not_refused():
    source = """#if 0
asm("x");
#endif
#ifdef NO
__global__ void f(float *y) { wmma(); }
#endif
// asm("y") <<<
__global__ void f(float *y) { *y = 1; }
void host() { f<<<1, 1>>>(0); cudaDeviceSynchronize(); std::vector<Thing> things; }
int main(int argc, char **argv) { host(); cudaMalloc(&y, 4); return 0; }
"""
    y = np.zeros(1, F)
    RawKernel(source, "f")(1, 1, (y,))
    assert y == 1


def test_assembly_that_is_not_reached_does_not_stop_a_kernel():
    before = '__device__ int lane() { int n; asm("mov.u32 %0, %%laneid;" : "=r"(n)); return n; }'
    assert ran("y[i] = i < 99 ? 3 : lane();", before=before) == [3] * 32
    with pytest.raises(MinetError, match=r"source.cu:1: the emulator does not model inline assembly"):
        ran("y[i] = lane();", before=before)


def test_a_function_of_the_host_may_have_the_kernels_name():
    source = """__global__ void f(int *y) { *y = 1; }
void f(int *y, int block) { f<<<1, block>>>(y); }
"""
    y = np.zeros(1, np.int32)
    RawKernel(source, "f")(1, 1, (y,))
    assert y == 1


def test_what_is_defined_in_another_file_is_named():
    source = "extern __device__ int elsewhere(int);\n__global__ void f(int *y) { *y = elsewhere(*y); }"
    with pytest.raises(MinetError, match=r"source.cu: f cannot be linked: it uses .*elsewhere"):
        RawKernel(source, "f").compile()


def test_virtual_functions():
    before = """struct Base {
    __device__ virtual int number() const { return 1; }
    __device__ virtual ~Base() {}
};
struct Own : Base {
    int n;
    __device__ Own(int n) : n(n) {}
    __device__ int number() const override { return n; }
};"""
    body = "Base *b = new Own(i + 5); y[i] = b->number(); delete b;"
    assert ran(body, before=before) == list(range(5, 37))


def test_inverses_of_erf_and_of_the_normal_distribution():
    body = """double x = (i - 16) / 17.0;
    y[i] = erf(erfinv(x)) - x + erfc(erfcinv(1 - x)) - (1 - x);
    y[i] += normcdf(normcdfinv(0.5 + x / 2)) - (0.5 + x / 2);
    y[i] += fabsf(erfinvf((float)x) + erfcinvf(1 + (float)x)) > 1e-5f;
    if (i == 0) y[i] += erfcinv(0.0) == HUGE_VAL && isnan(erfinv(1.5)) && erfcinv(2.0) < -9e99 ? 7 : 0;"""
    np.testing.assert_allclose(ran(body, dtype=float), [7, *[0] * 31], atol=1e-15)


def test_members_of_the_block_and_the_grid_need_no_object():
    body = """cg::thread_block::sync();
    y[i] = cg::thread_block::thread_rank() + cg::thread_block::size() * cg::grid_group::num_blocks();"""
    assert ran(body, 64, threads=32, grid=2, before=GROUPS) == [64 + n % 32 for n in range(64)]


def test_words_that_only_a_compiler_needs():
    before = "#include <cuda_fp16.h>\n#include <cuda_runtime.h>"
    body = """__builtin_assume(i >= 0);
    __half_raw bits;
    bits.x = 0x4400;
    half four(bits), other = bits;
    y[i] = (float)four + (float)other + (CLOCKS_PER_SEC > 0) + __funnelshift_lc(5, 6, 40) * 100;"""
    assert ran(body, before=before) == [509] * 32


# -- cuRAND -----------------------------------------------------------------------------------------------

DRAWN = """#include <curand_kernel.h>
template <class State> __global__ void f(unsigned *y, float *u, double *d, float *n, unsigned long long seed,
                                         unsigned long long sequence, unsigned long long offset) {
    State state;
    curand_init(seed, sequence, offset, &state);
    for (int i = 0; i < 6; i++) y[i] = curand(&state);
    *u = curand_uniform(&state), *d = curand_uniform_double(&state);
    for (int i = 0; i < 2; i++) n[i] = curand_normal(&state);
    skipahead(7, &state), skipahead_sequence(3, &state);
    y[6] = curand(&state);
}"""
PHILOX, XORWOW = "curandStatePhilox4_32_10_t", "curandState"
OF_CURAND = [  # what cuRAND 10.3.10's own source draws, compiled for a CPU
    (PHILOX, 0, 0, 0,
     [1713891541, 3781805453, 3159862348, 2600524760, 4175744164, 1555169499, 2254809308],
     "0x1.634aeap-1", "0x1.2fdfedp-5", [2.5441, -1.18636]),
    (PHILOX, 1234, 1, 0,
     [3507855656, 1392278645, 3354607383, 253049307, 118660703, 1698527859, 1557019079],
     "0x1.d8331cp-4", "0x1.0dfe0d6p-1", [1.80789, -0.502855]),
    (PHILOX, 1234, 1099511627781, 1000003,
     [1939926814, 2674751576, 3183760769, 3044319996, 583117833, 3797359031, 3235416689],
     "0x1.2a3084p-1", "0x1.2e7886b8p-3", [1.23491, -0.168238]),
    (PHILOX, 81985529216486895, 1, 42949672963,
     [251171888, 2316008153, 438385357, 989352796, 266711436, 1253421415, 521322981],
     "0x1.9cce58p-1", "0x1.442f386p-5", [-0.424837, 1.08696]),
    (PHILOX, 81985529216486895, 77, 6,
     [3786201675, 1336708267, 2685592562, 987335348, 424288465, 3920464628, 2505023882],
     "0x1.3f7002p-1", "0x1.d03434bp-1", [0.565164, 0.617197]),
    (XORWOW, 0, 0, 0,
     [3179217846, 1883133293, 2220552389, 674260989, 306521119, 1986458431, 827726817],
     "0x1.d236a2p-3", "0x1.270ba33c359b6p-3", [-0.927175, 1.57642]),
    (XORWOW, 1234, 1, 0,
     [3522650202, 3978931785, 2198015705, 2308946676, 3475686971, 75263415, 2349732999],
     "0x1.cc1f26p-2", "0x1.172878f88a6e2p-3", [0.846455, 1.11008]),
    (XORWOW, 1234, 1099511627781, 1000003,
     [1577764947, 2084304043, 3050718104, 4280542441, 2759802073, 2467477394, 1926426396],
     "0x1.c774fap-5", "0x1.d31dd8ef299e6p-1", [0.485436, 0.826483]),
    (XORWOW, 81985529216486895, 1, 42949672963,
     [293776924, 696622467, 2797113241, 3547727192, 2347937363, 1700778517, 1512993631],
     "0x1.81c33ap-2", "0x1.e8160abfaa74dp-2", [1.66929, 0.512422]),
    (XORWOW, 81985529216486895, 77, 6,
     [3055132581, 1537673813, 413429308, 1039403732, 239222761, 1419176268, 1316952424],
     "0x1.a523d4p-1", "0x1.b654c229022c2p-3", [0.112221, -1.41705]),
]  # fmt: skip


@pytest.mark.parametrize("case", OF_CURAND, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}-{case[3]}")
def test_draws_have_curands_bits(case):
    state, *where, numbers, uniform, double, normal = case
    y, u, d, n = np.zeros(7, np.uint32), np.zeros(1, F), np.zeros(1), np.zeros(2, F)
    RawKernel(DRAWN, f"f<{state}>")(1, 1, (y, u, d, n, *where))
    assert y.tolist() == numbers
    assert (float(u[0]).hex(), d[0].hex()) == (float.fromhex(uniform).hex(), float.fromhex(double).hex())
    np.testing.assert_allclose(n, normal, rtol=1e-5)


def test_philox_is_that_of_its_paper():  # Random123's known answers, of a counter of zeros and one of ones
    before = "#include <curand_kernel.h>"
    body = """uint4 c = {0, 0, 0, 0}, ones = {~0u, ~0u, ~0u, ~0u};
    uint4 a = curand_Philox4x32_10(c, make_uint2(0, 0)), b = curand_Philox4x32_10(ones, make_uint2(~0u, ~0u));
    y[0] = a.x, y[1] = a.y, y[2] = a.z, y[3] = a.w, y[4] = b.x, y[5] = b.y, y[6] = b.z, y[7] = b.w;"""
    zeros, all_ones = "6627e8d5 e169c58d bc57ac4c 9b00dbd8", "408f276d 41c83b0e a20bc7c6 6d5451fd"
    expected = [int(word, 16) for word in f"{zeros} {all_ones}".split()]
    assert ran(body, 8, np.uint32, threads=1, before=before) == expected


def test_four_numbers_at_once_are_four_of_one():
    body = """curandStatePhilox4_32_10_t s;
    curand_init(9, 8, 7, &s);
    for (int k = 0; k < 4; k++) y[k] = curand(&s);
    curand_init(9, 8, 7, &s);
    uint4 v = curand4(&s);
    y[4] = v.x, y[5] = v.y, y[6] = v.z, y[7] = v.w;"""
    drawn = ran(body, 8, np.uint32, threads=1, before="#include <curand_kernel.h>")
    assert drawn[:4] == drawn[4:] and len(set(drawn)) == 4
