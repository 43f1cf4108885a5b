"""Barriers of the whole grid: results, shared memory kept over them, races, and blocks that do not come."""

import numpy as np
import pytest

from minet import MinetError
from minet.emulator import RawKernel

ORDERS = ("forward", "reversed", "shuffled")
F = np.float32
# Two phases: sums of blocks, then the sum of all, which each block uses with what it kept in shared memory.
SUMS = """#include <cooperative_groups.h>
namespace cg = cooperative_groups;
__global__ void share(const float *x, float *part, float *all, float *y, int n) {
    __shared__ float own[32];
    cg::grid_group grid = cg::this_grid();
    float v = 0;
    for (int i = grid.thread_rank(); i < n; i += grid.size()) v += x[i];
    own[threadIdx.x] = v;
    __syncthreads();
    for (int half = 16; half; half /= 2) {
        if (threadIdx.x < half) own[threadIdx.x] += own[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) part[blockIdx.x] = own[0];
    grid.sync();  // first
    if (grid.thread_rank() == 0)
        for (int b = 0; b < gridDim.x; b++) *all += part[b];
    grid.sync();  // second
    if (threadIdx.x == 0) y[blockIdx.x] = own[0] / *all;
}"""
FIRST, SECOND = "grid.sync();  // first", "grid.sync();  // second"


def share(source=SUMS, blocks=4, **settings):
    """Each block's share of the sum."""
    x, part, total, y = np.arange(256, dtype=F), np.zeros(blocks, F), np.zeros(1, F), np.zeros(blocks, F)
    RawKernel(source, "share").check(**settings)(blocks, 32, (x, part, total, y, 256))
    return y


def line(words, source=SUMS):
    return f"source.cu:{source[: source.index(words)].count(chr(10)) + 1},"


def refused(source, match, **settings):
    with pytest.raises(MinetError, match=match) as error:
        share(source, **settings)
    return error.value.message.split("\n")


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    "how", [{}, {"watch": False}, {"sanitize": True}], ids=["watched", "not", "sanitized"]
)
@pytest.mark.parametrize("order", ORDERS)
def test_a_sum_in_two_phases(order, how):
    x = np.arange(256).reshape(2, 4, 32)
    assert share(order=order, **how).tolist() == (x.sum((0, 2)) / F(x.sum())).astype(F).tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_without_the_barrier_it_is_a_race(order):
    source = SUMS.replace(FIRST, "")
    said = refused(source, r"a race: two threads access the same place: part\[\d\]", order=order)
    found = {line("part[blockIdx.x] =", source), line("*all += part[b]", source)}
    assert {text.split()[0] for text in said[1:3]} == found and said[1].split()[2] != said[2].split()[2]


def test_a_barrier_of_the_block_does_not_order_blocks():
    source = SUMS.replace(SECOND, "__syncthreads();")
    said = refused(source, r"a race: two threads access the same place: all\[0\]")
    assert line("/ *all", source) in said[1] and line("*all +=", source) in said[2]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("block", [0, 2, 3])
def test_a_block_that_has_ended_is_named(block, order):
    source = SUMS.replace(FIRST, f"if (blockIdx.x == {block}) return;\n    {FIRST}")
    said = refused(source, "a barrier of the grid that not all blocks reach", order=order)
    assert line(FIRST, source) in said[1] and f"block ({block}," not in said[1]
    assert f"already ended: block ({block}, 0, 0)" in said[2]


def test_a_block_that_comes_to_another_barrier_is_named():
    source = SUMS.replace(FIRST, f"if (blockIdx.x != 2) {FIRST}")
    said = refused(source, "a barrier of the grid that not all blocks reach")
    assert line(FIRST, source) in said[1] and f"{line(SECOND, source)} block (2, 0, 0)" in said[2]


def test_threads_of_a_block_that_do_not_come_are_named():
    source = SUMS.replace(SECOND, f"if (threadIdx.x < 7) {SECOND}")
    said = refused(source, "a barrier that not all threads of the block reach")
    assert (
        f"{line(SECOND, source)} block (0, 0, 0), thread (0, 0, 0)" in said[1]
        and "thread (31, 0, 0)" in said[2]
    )
    source = SUMS.replace(FIRST, f"if (threadIdx.x < 7) {FIRST}\n    else __syncthreads();")
    said = refused(source, "a barrier that not all threads of the block reach")
    assert line(FIRST, source) in said[1] and line("else __syncthreads", source) in said[2]


def test_shared_memory_that_a_block_has_not_written_stays_unwritten():
    source = SUMS.replace(
        SECOND, f"{SECOND}\n    __shared__ float more[4];\n    if (blockIdx.x) more[0] = 1;"
    )
    source = source.replace("own[0] / *all", "own[0] / *all + more[0] - 1")
    said = refused(source, "a read of shared memory that no thread of the block has written")
    assert f"{line('more[0] - 1', source)} block (0, 0, 0)" in said[1]
    assert share(source.replace("if (blockIdx.x) more", "if (threadIdx.x == 0) more")).sum() == 1


def test_a_grid_that_no_card_holds_at_once_is_refused():
    with pytest.raises(
        MinetError, match=r"(?s)a grid of 300 blocks: an H100 has at most 132 of them.*source.cu:5,"
    ):
        large(300)
    with pytest.raises(MinetError, match=r"(?s)a grid of 4000 blocks: the emulator has at most 768 of them"):
        share(blocks=4000)


LARGE = """#include <cooperative_groups.h>
__global__ void f(int *y) {
    extern __shared__ char room[];
    room[threadIdx.x] = 1;
    cooperative_groups::this_grid().sync();
    if (!threadIdx.x) y[blockIdx.x] = room[0] + cooperative_groups::this_grid().is_valid();
}"""


def large(blocks):
    kernel, y = RawKernel(LARGE, "f"), np.zeros(blocks, np.int32)
    kernel.max_dynamic_shared_size_bytes = 120 << 10
    kernel(blocks, 32, (y,), shared_mem=120 << 10)
    return y


def test_shared_memory_counts_for_what_a_card_holds():
    assert large(3).tolist() == [2] * 3
    with pytest.raises(
        MinetError, match="a grid of 133 blocks: an H100 has at most 132 of them at work at once"
    ):
        large(133)


def test_an_endless_loop_over_a_barrier_ends():
    source = SUMS.replace(SECOND, f"for (int k = 0; k < 2; k *= 1) {SECOND}")
    with pytest.raises(MinetError, match="a loop that does not end"):
        share(source, blocks=2, most_branches=1 << 22)


BY_NAME = """#include <cooperative_groups.h>
__global__ void share(const float *x, float *part, float *, float *y, int n) {
    y[blockIdx.x] = x[blockIdx.x];
    cooperative_groups::sync(cooperative_groups::this_grid());
    if (threadIdx.x == 0) part[blockIdx.x] = y[gridDim.x - 1 - blockIdx.x];
}"""


def test_a_barrier_by_the_function_of_its_name():
    with pytest.raises(MinetError, match="a race of one value"):
        share(BY_NAME)
    assert share(BY_NAME.replace("    y[", "    if (threadIdx.x == 0) y[")).tolist() == [0, 1, 2, 3]
