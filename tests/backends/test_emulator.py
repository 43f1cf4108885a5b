"""The emulator: right kernels pass in every thread order; planted faults are reported with their .cu line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import registers
from minet import LayerError, MinetError, Net, backends
from minet.backends import emulator
from minet.backends.cuda_source import without_comments
from minet.backends.emulator import ORDERS, check_launch
from minet.backends.launcher import KernelError
from minet.layers import PReLU, ReLU, all_layers
from minet.testing import check_layer, layerfile, run, sanitize
from minet.testing.sanitize import summarized

pytestmark = pytest.mark.skipif(bool(backends.missing("emu")), reason=f"no g++: {backends.missing('emu')}")
HERE = Path(__file__).parent / "cuda"
RIGHT, FAULTS, SANITIZED = HERE / "right.cu", HERE / "faults.cu", HERE / "sanitized.py"
ROOT = HERE.parents[2]


@pytest.fixture(params=ORDERS)
def be(request):
    return backends.get("emu", order=request.param)


def launch(be, name, grid=1, block=32, shared=0, path=RIGHT, **values):
    grid, block = (three if isinstance(three, tuple) else (three, 1, 1) for three in (grid, block))
    be.call(path, name, {}, values, 1, grid=grid, block=block, shared=shared)


def floats(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def ints(size):
    return np.arange(size, dtype=np.int32)


def lines(name, word):
    """The lines of faults.cu that have a mark."""
    text = FAULTS.read_text().splitlines()
    return [f"faults.cu:{n}," for n, line in enumerate(text, 1) if re.search(rf"// {word} {name}$", line)]


# -- right kernels --------------------------------------------------------------------------------------


def test_sums_in_shared_memory(be):
    x, y = floats(200), np.zeros(4, np.float32)
    launch(be, "tree_sum", 4, 64, x=x, y=y, size=200)
    np.testing.assert_allclose(y, [x[i : i + 64].sum() for i in range(0, 200, 64)], rtol=1e-6)
    x, y = floats(64), np.zeros(64, np.float32)
    launch(be, "warp_sum", 1, 64, x=x, y=y)
    np.testing.assert_allclose(y, np.repeat([x[:32].sum(), x[32:].sum()], 32), rtol=1e-6)


def test_half_warps_by_their_own_masks(be):
    x, y = ints(32), ints(32)
    launch(be, "halves", x=x, y=y)
    pairs = x[:16].reshape(8, 2).sum(axis=1) * 4
    np.testing.assert_array_equal(y, np.concatenate([x[16:], np.repeat(pairs, 2)]))
    launch(be, "read_again", x=x + 5, y=y)
    np.testing.assert_array_equal(y, [20] * 16 + [5] * 16)


def test_copies_that_do_not_wait(be):
    x, y = be.array(floats(3, 32, 4)), np.zeros(32, np.float32)
    launch(be, "ahead", x=x, y=y, rows=3)
    np.testing.assert_allclose(y, (x.sum((0, 2)) + x[0, :, :2].sum(1))[::-1], rtol=1e-6)


def test_what_only_nvcc_compiles_may_be_assembly(be):
    y = np.zeros(64, np.int32)
    launch(be, "assembled", 1, 64, y=y)
    np.testing.assert_array_equal(y, np.tile(np.arange(32), 2))


def test_atomics(be):
    x = np.random.default_rng(0).integers(0, 256, 100).astype(np.uint8)
    count, total = np.zeros(4, np.uint32), np.zeros(1, np.int32)
    launch(be, "histogram", 3, x=x, count=count, total=total, size=100)
    np.testing.assert_array_equal(count, 3 * np.bincount(x % 4))
    assert total[0] == 100
    x, y = floats(5), np.zeros(1, np.float32)
    launch(be, "last_block", 5, x=x, part=np.zeros(5, np.float32), ended=np.zeros(1, np.uint32), y=y)
    np.testing.assert_allclose(y[0], x.sum(), rtol=1e-6)


def test_shuffles_and_votes_with_a_partial_last_warp(be):
    x = ints(40)
    down, up, other, beyond, first, votes = (np.zeros(40, kind) for kind in "iiiiiI")
    out = dict(down=down, up=up, other=other, beyond=beyond, first=first, votes=votes)
    launch(be, "shuffles", 1, 40, x=x, **out)
    np.testing.assert_array_equal(down, [-1 if i in (31, 39) else i + 1 for i in range(40)])
    np.testing.assert_array_equal(up, np.concatenate([x[:32].cumsum(), x[32:].cumsum()]))
    np.testing.assert_array_equal(other, x ^ 4)
    np.testing.assert_array_equal(beyond, x - x % 16 // 8 * 8)
    np.testing.assert_array_equal(first, x // 4 * 4)
    np.testing.assert_array_equal(votes, [0xAAAAAAAA] * 32 + [0xAA] * 8)
    x, y = floats(21), np.zeros(2, np.float32)
    launch(be, "returned", x=x, y=y, size=21)
    np.testing.assert_allclose(y, [x.sum(), np.nan], rtol=1e-6)


def test_barriers_that_count(be):
    y = ints(210)
    launch(be, "counts", 1, 70, x=ints(70), y=y)
    np.testing.assert_array_equal(y.reshape(70, 3), [[67, 0, 1]] * 70)


def test_vectors_and_dynamic_shared_memory(be):
    x, y = floats(8, 4), floats(8, 4)
    launch(be, "vectors", 1, 8, x=x, y=y, alone=x.ravel()[1:9])
    expected = x[:, ::-1].copy()
    expected[:, 0] += x.ravel()[1:9]
    np.testing.assert_array_equal(y, expected)
    y = ints(50)
    launch(be, "backwards", 1, 50, shared=200, x=ints(50), y=y)
    np.testing.assert_array_equal(y, ints(50)[::-1])


def test_grids_and_blocks_of_three_dimensions(be):
    y = ints(360)
    launch(be, "indices", (2, 3, 2), (5, 2, 3), y=y)
    np.testing.assert_array_equal(y.reshape(12, 30), 1000 * np.arange(12)[:, None] + np.arange(30))


def test_arguments_of_every_type_and_alignment(be):
    y = np.zeros(7)
    values = dict(a=-3, b=2**40, c=True, d=0.5, e=0.1, f=2**32 - 1, g=2**50)
    launch(be, "arguments", **values, y=y, nothing=None)
    np.testing.assert_array_equal(y, list(values.values()))


def test_templates_members_constants_and_barriers_between_ifs(be):
    x, y = ints(32), np.zeros(32, np.float32)
    launch(be, "templates", x=x, y=y)
    scale, offset = np.where(x % 2, 10, 1), np.array([100, 200, 300])[x % 3]
    np.testing.assert_array_equal(y, scale * x.sum() + 24 + offset)
    launch(be, "members", x=x, y=(y := ints(32)))
    np.testing.assert_array_equal(y, 3 * x)
    y = ints(32)
    launch(be, "around", x=x, y=y, n=3)
    np.testing.assert_array_equal(y, np.concatenate([x[15::-1] + 2, x[:4] + 2, x[20:]]))


def test_arrays_without_elements(be):
    empty = np.zeros(0, np.int32)
    launch(be, "around", x=empty, y=empty, n=0)


def test_many_blocks_leave_nothing_behind(be):
    # What is known about a place is for one launch, and about shared memory for one block.
    x, y = floats(64), np.zeros(1, np.float32)
    for i in range(3):
        launch(be, "tree_sum", 1, 64, x=x, y=y, size=64 - i)
        np.testing.assert_allclose(y[0], x[: 64 - i].sum(), rtol=1e-6)


# -- planted faults -------------------------------------------------------------------------------------

OUTSIDE = "outside shared memory and the kernel's arrays"
RACE = "a race: two threads access the same place"
KINDS = {
    "past_the_end": f"a read of 4 bytes {OUTSIDE}, right past the end of x",
    "before_the_start": f"a write of 4 bytes {OUTSIDE}, 4 bytes before the start of y",
    "null_pointer": f"a write of 4 bytes {OUTSIDE}: a null pointer",
    "past_shared": f"a write of 4 bytes {OUTSIDE}\n",
    "past_dynamic": f"a write of 4 bytes {OUTSIDE}, ",  # where, is below
    "past_by_atomic": f"a write of 4 bytes {OUTSIDE}, 128 bytes past the end of y",
    "other_s_locals": f"a read of 4 bytes {OUTSIDE}\n",
    "unwritten": "a read of shared memory that no thread of the block has written",
    "unwritten_counter": "a read of shared memory that no thread of the block has written",
    "no_barrier": "",  # a race or unwritten memory, depending on the order
    "no_second_barrier": f"{RACE}, with no barrier between them",
    "no_syncwarp": f"{RACE}, with no barrier between them",
    "read_by_many": f"{RACE}, with no barrier between them",
    "read_by_two_warps": f"{RACE}, with no barrier between them",
    "one_result": f"{RACE}: y[0], with no barrier between them",
    "blocks_meet": f"{RACE}: y[0], with no barrier between them",
    "blocks_read": f"{RACE}: y[0], with no barrier between them",
    "blocks_cross": f"{RACE}: y[0], with no barrier between them",
    "half_atomic": f"{RACE}: y[0], with no barrier between them",
    "two_barriers": "a barrier that not all threads of the block reach",
    "returns_before": "a barrier that not all threads of the block reach",
    "once_more": "a barrier that not all threads of the block reach",
    "lane_stays_away": "a barrier that not all threads of the block reach",
    "not_in_its_mask": "a warp operation that not all threads of its mask reach",
    "two_operations": "a warp operation that not all threads of its mask reach",
    "misaligned": "a read of 16 bytes of x at an address that is not a multiple of 16",
    "misaligned_atomic": "a write of 4 bytes of y at an address that is not a multiple of 4",
    "divided": "undefined behaviour: a division by zero",
    "overflown": "undefined behaviour: a product that overflows its type",
    "shifted": "undefined behaviour: a shift by more bits than the type has",
    "past_locals": "undefined behaviour: an index outside its array",
    "recursive": "out of stack",
    "trapped": "stopped: __trap()",
    "asserted": "stopped: assert(threadIdx.x < 2)",
    "not_waited": "a read of shared memory that no thread of the block has written",
    "waited_for_its_own": "",  # a race or unwritten memory
    "copied_too_far": f"a read of 16 bytes {OUTSIDE}, right past the end of x",
    "copied_askew": "a read of 16 bytes of x at an address that is not a multiple of 16",
}


def fault(be, name):
    """The error about a kernel of faults.cu; y has twice as many elements as the block has threads."""
    x, room, count = be.array(ints(32)), be.zeros((192,)), np.zeros(1, np.int32)
    y = room[64:128]  # so that nothing else lies near it
    size = 96 if name == "past_by_atomic" else 32
    given = {"x": x, "y": None if name == "null_pointer" else y, "size": size, "count": count}
    with pytest.raises(MinetError) as caught:
        launch(be, name, 2, 64 if name == "read_by_two_warps" else 32, shared=64, path=FAULTS, **given)
    return str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_a_planted_fault_is_reported_with_its_line(be, name):
    text = fault(be, name)
    assert text.startswith(f"{name} on the emulator: {KINDS[name]}"), text
    for mark in ("FAULT", "ALSO") if KINDS[name] else ("FAULT",):
        for line in lines(name, mark):
            assert line in text
    assert lines(name, "FAULT") or name == "recursive"
    assert re.search(r"tests/backends/cuda/faults\.cu:\d+, block \([01], 0, 0\), thread \(\d+, 0, 0\)", text)
    assert len(re.findall(r"faults\.cu:\d+", text)) <= 2
    after = ints(50)  # and the emulator still works
    launch(be, "backwards", 1, 50, shared=200, x=ints(50), y=after)
    assert after[0] == 49


@pytest.mark.parametrize("name", ["past_dynamic"])
def test_an_overrun_of_shared_memory_is_not_taken_for_one_of_an_array(be, name):
    # 16 floats; the first thread that is too far depends on the order.
    text = fault(be, name).splitlines()[0]
    assert re.search(rf"{OUTSIDE}, (right|[1-9]\d? bytes) past the end of shared memory$", text)


def test_every_kernel_in_the_file_has_its_fault_tested():
    kernels = re.findall(r"__global__ void (\w+)", FAULTS.read_text())
    assert kernels == list(KINDS)


def test_a_null_pointer_has_a_hint_of_its_own():
    assert "a net's first layer has no dx" in fault(backends.get("emu"), "null_pointer")
    assert "a net's first layer has no dx" not in fault(backends.get("emu"), "before_the_start")


def test_a_thread_that_ended_before_a_barrier_is_named():
    message = fault(backends.get("emu"), "returns_before")
    assert "  already ended: block (0, 0, 0), thread (31, 0, 0)" in message


def test_a_fault_in_a_header_names_both_lines(tmp_path):
    (tmp_path / "inner.cuh").write_text(
        "__device__ float last(const float *x, int n) {\n    return x[n];\n}\n"
    )
    text = '#include "inner.cuh"\nextern "C" __global__ void user(const float *x, float *y) {\n'
    (tmp_path / "user.cu").write_text(text + "    y[0] = last(x, 32);\n}\n")
    be = backends.get("emu")
    with pytest.raises(MinetError, match=r"inner\.cuh:2, called at \S*user\.cu:3, block"):
        launch(be, "user", 1, 1, path=tmp_path / "user.cu", x=floats(32), y=floats(1))


@pytest.mark.parametrize(
    ("grid", "block", "shared"),
    [
        (1, 1025, 0), (1, (32, 33, 1), 0), (1, (1, 1, 65), 0), (1, 0, 0), ((1, 65536, 1), 1, 0),
        ((1, 1, 65536), 1, 0), (2**31, 1, 0), (1, 50, 49153), (-3, 1, 0), ((1, -2, -1), 1, 0),
        (1, (-8, -4, 1), 0),
    ],
)  # fmt: skip
def test_launches_that_no_gpu_allows_are_refused(grid, block, shared):
    found = r"(cannot launch \(.*\) blocks of \(.*\) threads|49\d+ bytes of shared memory are too many)"
    with pytest.raises(MinetError, match=f"backwards on the emulator: {found}\n  hint: a block has "):
        launch(backends.get("emu"), "backwards", grid, block, shared=shared, x=ints(50), y=ints(50))


class Sized(registers.Noting):
    """Computes nothing, and refuses the launches that no card allows."""

    def start(self, module, kernel, grid, block, args, arrays, shared=0):
        check_launch(kernel.name, grid, block, shared)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("cls", all_layers(), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("long", range(4))
def test_no_layer_launches_more_than_a_card_allows_however_long_an_axis_is(cls, long):
    """A grid has at most 65535 blocks along y: kernels stride over the rest."""
    for make, in_shape in cls.examples():
        sizes = [*in_shape, 1]
        sizes[long] = 70_000
        try:
            net = Net(make(), tuple(sizes[:3]), sizes[3], backend=Sized())
        except LayerError:  # numbers for each channel
            continue
        registers.step(net)


SHARED = """
__device__ float both(int i) {
    __shared__ float of_both[1024];
    of_both[i] = 1;
    return of_both[threadIdx.x];
}
template <class T> __device__ T any(int i) {
    __shared__ T of_any[1024];
    of_any[i] = 1;
    return of_any[threadIdx.x];
}
extern "C" __global__ void declares(float *y, int i) {
    __shared__ float a[SIZE], b[512];
    a[i] = b[i] = 1;
    y[threadIdx.x] = both(i) + any<float>(i) + a[threadIdx.x] + b[threadIdx.x];
}
extern "C" __global__ void declares_more(float *y, int i) {
    __shared__ float c[12000];
    c[i] = 1;
    y[threadIdx.x] = c[threadIdx.x];
}
extern "C" __global__ void declares_too(float *y, int i) {
    extern __shared__ float e[];
    __shared__ float d[8];
    e[i] = d[i] = 1;
    y[threadIdx.x] = d[threadIdx.x] + e[threadIdx.x];
}
"""


def test_shared_memory_is_counted_by_kernel_declared_and_dynamic(tmp_path):
    """A card gives a block 48 KiB. A file's device functions count for each kernel, other kernels do not."""
    path, be = tmp_path / "declares.cu", backends.get("emu")
    path.write_text(SHARED)

    def run(name, size=8, shared=0):
        values, one = {"y": np.zeros(1, np.float32), "i": 0}, (1, 1, 1)
        be.call(path, name, {"SIZE": size}, values, 1, grid=one, block=one, shared=shared)

    most = 48 << 10
    for name, settings in (
        ("declares", {"size": (most >> 2) - 512 - 2 * 1024}),
        ("declares_too", {"shared": most - 4 * 8 - 8 * 1024}),
    ):
        run(name, **settings)
        settings = {key: value + 4 // (1 + 3 * (key == "size")) for key, value in settings.items()}
        with pytest.raises(MinetError, match=f"^{name} on the emulator: 49156 bytes of shared memory are "):
            run(name, **settings)
    with pytest.raises(MinetError, match=r"^declares_more on the emulator: 56192 bytes") as caught:
        run("declares_more")
    assert "hint: a block has 49152, declared and dynamic together" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('asm("bar.sync 0;");', "assembly: 'asm'"),
        ("other<<<1, 1>>>(x);", "launches from kernels: '<<<'"),
        ("float v = tex2D<float>(t, 0, 0);", "textures and surfaces: 'tex2D'"),
        ("wmma::fill_fragment(c, 0);", "tensor cores: 'wmma'"),
        ("cuda::atomic<int> a;", "libcu++: 'cuda::'"),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(tmp_path, line, what):
    path = tmp_path / "own.cu"
    text = '// asm, __half\n/* tex2D */\nextern "C" __global__ void own(float *x) {\n    LINE\n}\n'
    path.write_text(text.replace("LINE", line))
    with pytest.raises(MinetError, match=r"the emulator does not model ") as caught:
        launch(backends.get("emu"), "own", path=path, x=floats(1))
    assert f"own.cu:4: the emulator does not model {what}" in str(caught.value)
    assert "hint: test such a kernel on a GPU: --backend cuda" in str(caught.value)


WIDE = """#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cuda_fp16.h>
#include <curand_kernel.h>
namespace cg = cooperative_groups;
extern "C" __global__ void wide(const float *x, float *y, unsigned *draws) {
    extern __shared__ float room[];
    auto tile = cg::tiled_partition<8>(cg::this_thread_block());
    int *at = new int(threadIdx.x);
    room[threadIdx.x] = __half2float(__float2half(x[*at])) + __activemask() % 2;
    cg::sync(tile);
    y[threadIdx.x] = cg::reduce(tile, room[threadIdx.x], cg::plus<float>());
    curandStatePhilox4_32_10_t state;
    curand_init(0, 0, 0, &state);
    draws[threadIdx.x] = curand(&state);
    if (threadIdx.x == 0) printf("%g\\n", y[0]);
    delete at;
}
"""


def test_a_layers_kernel_may_use_what_others_kernels_use(tmp_path, be, capsys):
    path = tmp_path / "wide.cu"
    path.write_text(WIDE)
    x, y, draws = floats(32), np.zeros(32, np.float32), np.zeros(32, np.uint32)
    launch(be, "wide", 1, 32, shared=128, path=path, x=x, y=y, draws=draws)
    sums = (x.astype(np.float16).astype(np.float32) + 1).reshape(4, 8).sum(1)
    np.testing.assert_allclose(y.reshape(4, 8), sums[:, None].repeat(8, 1), rtol=1e-6)
    assert (draws == 0x6627E8D5).all()  # the first of Random123's known answers
    assert capsys.readouterr().out == f"{y[0]:g}\n"
    with pytest.raises(MinetError, match=r"(?s)a read of 4 bytes.*past the end of x.*wide.cu:10,"):
        launch(be, "wide", 1, 32, shared=128, path=path, x=x[:8], y=y, draws=draws)


def test_minets_own_kernels_do_without_the_larger_header():
    for path in (ROOT / "kernels").glob("*.cu*"):
        assert not emulator.MORE.search(without_comments(path.read_text())), path.name


def test_a_kernel_that_does_not_end_can_be_stopped(tmp_path):
    path = tmp_path / "endless.cu"
    path.write_text(
        'extern "C" __global__ void endless(volatile int *x) {\n    while (x[0] == 0) x[1] = x[0];\n}\n'
    )

    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    launch(backends.get("emu"), "endless", 1, 1, path=path, x=np.ones(2, np.int32))  # compiled; this one ends
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Stopped):
            launch(backends.get("emu"), "endless", 1, 1, path=path, x=np.zeros(2, np.int32))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


ENDLESS = {
    "without memory": "for (int i = 0; i < n; i ^= 1) {}",
    "in memory": "while (x[1] == 0) x[0] = x[1];",
    "at barriers": "while (n) __syncthreads();",
    "waiting for another thread": "if (threadIdx.x) while (!atomicAdd((int *)x, 0)) {}\n    x[0] = n;",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_loop_that_does_not_end_is_reported_with_its_line(monkeypatch, tmp_path, kind):
    monkeypatch.setattr(emulator, "MOST_STEPS", 1 << 23)
    path = tmp_path / "endless.cu"
    path.write_text(
        f'extern "C" __global__ void endless(volatile int *x, int n) {{\n    {ENDLESS[kind]}\n}}\n'
    )
    order = "reversed" if kind.startswith("waiting") else "forward"
    with pytest.raises(KernelError, match=r"endless on the emulator: a loop that does not end") as caught:
        launch(backends.get("emu", order=order), "endless", path=path, x=np.zeros(2, np.int32), n=2)
    assert "gone through more than 8e+06 branches\n  " in str(caught.value)
    assert f"{path.name}:2, block (0, 0, 0), thread (" in str(caught.value)


SPIN = """from minet import Layer, update

class Spin(Layer):
    def out_shape(self, in_shape):
        return in_shape
    def fprop_cpu(self, x, y, beta, train):
        update(y, x, beta)
    def bprop_cpu(self, x, dy, dx, beta):
        update(dx, dy, beta)
    @classmethod
    def examples(cls):
        yield cls, (2, 3, 4)
"""


def test_the_kit_does_not_wait_for_such_a_loop_in_every_check(monkeypatch, tmp_path):
    monkeypatch.setattr(emulator, "MOST_STEPS", 1 << 23)
    (tmp_path / "spin.py").write_text(SPIN)
    loop = "for (int i = 0; i < N; i += 0) y[i] = x[i];"
    (tmp_path / "spin.cu").write_text(
        f'extern "C" __global__ void spin_fprop(const float *x, float *y, int N) {{ {loop} }}\n'
        'extern "C" __global__ void spin_bprop(const float *dy, float *dx, int N) {}\n'
    )
    ((make, shape),) = layerfile.all_examples(str(tmp_path / "spin.py"))
    with pytest.raises(KernelError, match=r"^Spin .*\n  spin_fprop on the emulator: a loop that"):
        check_layer(make, shape)


# -- options --------------------------------------------------------------------------------------------


def test_the_order_comes_from_the_caller_or_the_environment(monkeypatch):
    assert backends.get("emu").order == "forward"
    monkeypatch.setenv("MINET_EMULATOR_ORDER", "shuffled")
    assert backends.get("emu").order == "shuffled"
    assert backends.get("emu", order="reversed").order == "reversed"
    with pytest.raises(MinetError, match=r"must be one of forward, reversed, shuffled, got 'random'"):
        backends.get("emu", order="random")


def test_unchecked_kernels_run_with_their_faults():
    be = backends.get("emu", checked=False)
    x, y = floats(200), np.zeros(4, np.float32)
    launch(be, "tree_sum", 4, 64, x=x, y=y, size=200)
    np.testing.assert_allclose(y.sum(), x.sum(), rtol=1e-6)
    y = np.zeros(32, np.float32)
    launch(be, "unwritten", 1, 32, path=FAULTS, x=x, y=y, size=32)
    assert np.isnan(y[31]) and not np.isnan(y[:31]).any()  # shared memory starts out as NaN


def test_it_computes_in_float32():
    with pytest.raises(MinetError, match=r"'emu' computes in float32, got 'float64'"):
        backends.get("emu", "float64")


# -- under AddressSanitizer and UBSan -------------------------------------------------------------------


def check(name, *options):
    command = [sys.executable, "-m", "minet", "check", f"tests/backends/cuda/sanitized.py:{name}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def place(stem):
    text = (HERE / f"{stem}.cu").read_text().splitlines()
    return f"tests/backends/cuda/{stem}.cu:{next(n for n, line in enumerate(text, 1) if 'FAULT' in line)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Overrun", "AddressSanitizer: heap-buffer-overflow, a read of 4 bytes"),
        ("Shifted", "UBSan: shift exponent 43 is too large for 32-bit type 'int'"),
    ],
)
def test_a_sanitizer_s_report_becomes_one_error(name, message):
    stem = name.lower()
    status, out, err = check(name, "--backend", "emu", "--sanitize")
    hint = "  hint: --debug shows all of the report\n"
    assert err == f"error: {stem}_fprop on the emulator: {message}\n  {place(stem)}\n{hint}"
    assert (status, out) == (2, "")


@pytest.mark.slow
def test_debug_shows_a_report_as_it_is():
    status, _, err = check("Overrun", "--backend", "emu", "--sanitize", "--debug")
    assert status == 2 and "Traceback" not in err
    assert "ERROR: AddressSanitizer" in err and "Shadow bytes" in err and "WARNING" not in err
    assert err.endswith(f"a read of 4 bytes\n  {place('overrun')}\n")


def test_right_kernels_pass_under_sanitizers():
    status, out, err = check("Sound", "--backend", "emu", "--sanitize")
    assert (status, err) == (0, "")
    assert re.search(r"\n  PASS  thread_order\n  PASS  parity_emu\n", out)
    assert re.search(r"\nSound: \d+ passed, 0 failed, \d skipped\n$", out)


RUN_ALL = """
import sys; sys.path.insert(0, "tests/backends")
import numpy as np, pytest, test_emulator as t
from minet import backends
assert backends.get("emu").sanitize
for order in t.ORDERS:
    be = backends.get("emu", order=order)
    with pytest.raises(t.MinetError, match="a barrier that not all threads"):
        t.launch(be, "returns_before", path=t.FAULTS, x=be.zeros((32,)), y=be.zeros((64,)), size=32)
    for name, test in vars(t).items():
        if name.startswith("test_") and test.__code__.co_varnames[: test.__code__.co_argcount] == ("be",):
            test(be)
            print(name)
"""


@pytest.mark.slow
def test_all_right_kernels_pass_under_sanitizers_which_accept_fibers():
    env = {**os.environ, **sanitize.environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN_ALL]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test_sums_in_shared_memory") == 3 and len(done.stdout.splitlines()) >= 30


def test_sanitize_is_for_the_emulator_alone():
    for backend in ("cpu", "cuda", "auto"):
        status, out, err = check("Sound", "--backend", backend, "--sanitize")
        assert (status, out) == (2, "")
        assert err.startswith(f"error: --sanitize is for --backend emu, got {backend}\n")


def test_an_addresssanitizer_that_is_not_loaded_is_reported(monkeypatch):
    monkeypatch.setenv("MINET_EMULATOR_SANITIZE", "1")
    monkeypatch.setenv("LD_PRELOAD", "")
    with pytest.raises(
        MinetError, match=r"AddressSanitizer is not loaded.*\n  hint: minet check FILE .*--sanitize"
    ):
        backends.get("emu")


def test_a_report_from_elsewhere_is_marked_as_such():
    frame = "    #0 0x1 in PyList_New (/lib/p.so+0x1)\n"
    summary = summarized(f"==1==ERROR: AddressSanitizer: SEGV on unknown address 0x0\n{frame}")
    assert summary == "the emulator: AddressSanitizer: SEGV\n  not in a kernel"


def test_all_calls_of_a_report_inside_a_kernel_are_shown():
    frames = "\n".join(
        f"    #{i} 0x1 in {name}"
        for i, name in enumerate(["last in.cuh:2", "user u.cu:3", "emu_body_user x:1"])
    )
    report = f"==1==ERROR: AddressSanitizer: stack-buffer-overflow on\nWRITE of size 8 at 0x1\n{frames}\n"
    kind, where = "stack-buffer-overflow, a write of 8 bytes", "in.cuh:2, called at u.cu:3"
    assert summarized(report) == f"user on the emulator: AddressSanitizer: {kind}\n  {where}"


def test_a_kernels_threads_keep_few_of_the_mappings_that_a_process_may_have():
    def mappings():
        return len(Path("/proc/self/maps").read_text().splitlines())

    x = np.ones((1, 4, 64, 16), np.float32)
    run(ReLU(), x, x, backend="emu")
    before = mappings()
    run(PReLU(), x, x, backend="emu")  # its bprop has barriers, at which each thread needs a stack
    assert mappings() - before < 200  # a library of its own, and few of the 256 stacks
