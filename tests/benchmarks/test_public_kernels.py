"""benchmarks.public_kernels: a kernel that is right, wrong, faulty, told or refused is counted as that."""

import numpy as np
import pytest

from benchmarks.public_cases import CASES, COMMITS, Case, count, planted
from benchmarks.public_kernels import outcome, page

FILE = r"""
__global__ void right(float *y) { y[threadIdx.x] = threadIdx.x; }
__global__ void wrong(float *y) { y[threadIdx.x] = 2 * threadIdx.x + 1; }
__global__ void races(float *y) { y[threadIdx.x] = threadIdx.x; y[0] = threadIdx.x; }
__global__ void told(float *y) { __shared__ int s; s = 1; __syncthreads(); y[threadIdx.x] = s * threadIdx.x; }
__global__ void past(float *y) { y[threadIdx.x + 1] = 0; }
__global__ void refused(float *y) { asm("exit;"); }
"""


def case(name):
    def make():
        y = np.zeros(32, np.float32)
        return (y,), [(y, np.arange(32))]

    return Case("karpathy+llm.c", "some.cu", name, 1, 32, make)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "karpathy+llm.c").mkdir()
    (tmp_path / "karpathy+llm.c/some.cu").write_text(FILE)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "word", "why"),
    [
        ("right", "right", ""),
        ("wrong", "wrong", "forward: result 0"),
        ("races", "fault", "a race: two threads"),
        ("told", "told", "a race of one value"),
        ("past", "fault", "right past the end of y; some.cu:6,"),
        ("refused", "refused", "inline assembly"),
        ("absent", "refused", "has no kernel absent"),
    ],
)
def test_an_outcome(folder, name, word, why):
    found, said = outcome(case(name), folder)
    assert found == word and why in said


def test_the_page_counts_them():
    text = page(
        [(case("a"), "right", ""), (case("b"), "right", ""), (case("c"), "fault", "why")],
        "planted",
        "the rest",
    )
    assert "**Of 3: 2 right, 0 told, 1 fault, 0 refused, 0 wrong.**" in text and text.endswith(
        "planted\nthe rest"
    )


def test_each_case_is_of_a_repository_with_a_commit():
    assert len(CASES) >= 60 and {one.repository for one in CASES} == set(COMMITS)
    assert len({(one.file, one.name) for one in CASES}) == len(CASES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "find", "at", "found"),
    [
        ("overrun", "y[threadIdx.x]", "y[threadIdx.x + 1]", "some.cu:2 in all three orders"),
        ("overrun", "y[threadIdx.x]", "races", "on other lines: right on the emulator"),
        ("missing fence", "y[threadIdx.x]", "y[threadIdx.x + 1]", "no: right on the emulator"),
        ("overrun", "threadIdx.x;", "y[", "no: nothing is said"),
    ],
)
def test_a_planted_fault(folder, kind, find, at, found):
    plant = planted.Plant(kind, "right", find, find.replace(".x", ".x + 1"), (at,))
    assert found in planted._run(plant, case("right"), folder / "karpathy+llm.c", folder / "copy")[1]


def test_a_fault_before_it_was_planted_is_told(folder):
    plant = planted.Plant("overrun", "past", "+ 1", "+ 2", ("y[",))
    found = planted._run(plant, case("past"), folder / "karpathy+llm.c", folder / "copy")[1]
    assert found.startswith("a fault before it was planted: past on the emulator")


def test_each_plant_is_of_a_case():
    names = {one.name for one in [*CASES, *planted.MORE]}
    assert all(one.kernel in names for one in planted.PLANTS)
    assert {one.kind for one in planted.PLANTS} == set(planted.SAID)


def test_all_kernels_are_counted(folder, monkeypatch):
    monkeypatch.setenv("MINET_CACHE", str(folder / "cache"))
    file = folder / "karpathy+llm.c/some.cu"
    file.write_text(FILE + "template <int N> __global__ void many(int *y) { *y = N; }\n")
    counted = count.of_file(file, ())
    assert counted == [*["compiles"] * 6, "a template, to be named with its arguments"]
    assert count.of_file(file, ()) == counted
