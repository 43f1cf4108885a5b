"""The tables of docs/gaussian-pooling.md are what benchmarks/ladder.py prints."""

import re
from pathlib import Path

import pytest

from benchmarks import instructions, ladder
from minet.backends import kernel_cache, nvidia

PAGE = (Path(__file__).parents[2] / "docs/gaussian-pooling.md").read_text()
TABLES = ladder.one_kernel, ladder.three_kernels
compiler = "release 13.0" in kernel_cache.version(nvidia.nvcc())


def row(name):
    (cells,) = re.findall(rf"^\| {re.escape(name)} \| (.+) \|$", PAGE, re.MULTILINE)
    return cells.split(" | ")


@pytest.mark.parametrize("make", TABLES)
def test_bytes_are_those_of_the_page(make):
    for name, layer in make().items():
        found = ladder.launches(layer)
        assert [f"{ladder.bytes_for_each_x(found[phase]):.4g}" for phase in ("fprop", "bprop")] == row(name)[
            :2
        ]


def test_an_atomic_addition_and_a_beta_read_what_they_write():
    bprop = ladder.launches(ladder.ladder.NaivePool(**ladder.WINDOW))["bprop"]
    image = 4 * 64 * 32 * 32 * 128
    assert [(launch.kernel, launch.moved / image) for launch in bprop] == [
        ("naive_pool_keep", 1), ("naive_pool_scatter", 1 / 4 + 2)
    ]  # fmt: skip
    branches = ladder.launches(ladder.three_kernels()["5 Concat of three MarchPool"])["bprop"]
    moved = [launch.moved / image for launch in branches if launch.kernel == "march_pool_bprop"]
    assert moved == [9 / 4, 13 / 4, 13 / 4]


@pytest.mark.slow
@pytest.mark.skipif(not (compiler and instructions.nvdisasm()), reason="needs nvcc 13.0 and nvdisasm")
@pytest.mark.parametrize("make", TABLES)
def test_tables_are_those_of_the_page(make):
    """GaussianPool's own kernels may be tuned without these pages; all others are the page's own."""
    head, _, *lines = ladder.table(make())
    assert head in PAGE
    for line in lines:
        if not line.startswith("| GaussianPool"):
            assert line in PAGE
