"""Kernels that are found, and kernels that seem to be meant for a layer but are not used."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from minet import backends
from minet.core.files import run_file
from minet.testing import check_layer

HELPERS = Path(__file__).parents[1] / "helpers"
pytestmark = pytest.mark.skipif(bool(backends.missing("emu")), reason="no g++")

LAYER = """
import numpy as np
from minet import Layer, update

class Squared(Layer):
    def out_shape(self, in_shape):
        return in_shape
    def fprop_cpu(self, x, y, beta, train):
        update(y, x * np.abs(x), beta)
    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            update(dx, dy * 2 * np.abs(x), beta)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def reports(name, cls, cu, stem, others=""):
    """The reports on emu and cpu of a class with kernels in a file of that name."""
    Path(name).write_text(LAYER.replace("Squared", cls) + others)
    Path(cu).write_text((HELPERS / "squared.cu").read_text().replace("squared", stem))
    make = getattr(run_file(Path(name)), cls)
    return [check_layer(make, (2, 3, 4), backend=backend) for backend in ("emu", "cpu")]


@pytest.mark.parametrize("stem", ["lse_pool", "lsepool"])
def test_both_stems_of_an_acronym_serve_its_class(stem):
    for report in reports("pool.py", "LSEPool", f"{stem}.cu", stem):
        assert report.ok, report.full()
        assert [check.status for check in report.checks if check.name == "parity_emu"] == ["PASS"]


@pytest.mark.parametrize(
    ("cu", "stem", "found"),
    [
        (
            "wrongname.cu",
            "foo",
            "wrongname.cu is not used; looked for squared.cu with squared_fprop or squared_b",
        ),
        (
            "sqared.cu",
            "squared",
            "sqared.cu is not used; looked for squared.cu with squared_fprop or squared_b",
        ),
        (
            "squared.cu",
            "square",
            "squared.cu has kernels square_fprop, square_bprop; looked for squared.cu with ",
        ),
    ],
)
def test_kernels_that_are_not_used_fail_and_the_name_looked_for_is_told(cu, stem, found):
    for report, first in zip(
        reports("wrongname.py", "Squared", cu, stem), ("thread_order", "parity_emu"), strict=True
    ):
        assert report.failed[0].name == first and report.failed[0].detail.startswith(found), report.full()
        assert re.search(r"wrongname\.py:5, Squared$", report.failed[0].place)


def test_one_kernel_with_a_wrong_name_is_enough():
    text = (HELPERS / "squared.cu").read_text().replace("squared_bprop", "squared_bprp")
    report = reports("squared.py", "Squared", "squared.cu", "squared")[0]
    assert report.ok
    Path("squared.cu").write_text(text)
    report = check_layer(run_file(Path("squared.py")).Squared, (2, 3, 4), backend="emu")
    assert "squared.cu has kernels squared_bprp; looked for squared.cu with squared_bprop" in str(report)


def test_a_wrong_name_beside_a_method_that_launches_is_told():
    launching = """
    def bprop_gpu(self, x, dy, dx, beta):
        if dx is not None:
            self.be.launch(self, "squared_other", dx[0].size, len(dx), x=x, dy=dy, dx=dx, beta=beta)
"""
    Path("squared.py").write_text(LAYER + launching)
    text = (HELPERS / "squared.cu").read_text().replace("squared_bprop", "squared_other")
    Path("squared.cu").write_text(text.replace("squared_fprop", "square_fprop"))
    report = check_layer(run_file(Path("squared.py")).Squared, (2, 3, 4), backend="emu")
    assert report.failed[0].detail.startswith(
        "squared.cu has kernels square_fprop; looked for squared.cu with "
    )
    Path("squared.cu").write_text(text)
    report = check_layer(run_file(Path("squared.py")).Squared, (2, 3, 4), backend="emu")
    assert report.ok, report.full()


def test_a_file_that_serves_another_class_is_not_missed():
    other = LAYER.replace("class Squared", "class Plain").partition("class")
    for report in reports("squared.py", "Squared", "squared.cu", "squared", other[1] + other[2]):
        assert report.ok, report.full()
    report = check_layer(run_file(Path("squared.py")).Plain, (2, 3, 4), backend="emu")
    assert report.ok, report.full()
    assert "Plain has no kernel: it computes on the host" in report.full()


def test_kernels_in_a_block_are_read_and_run():
    shutil.copy(HELPERS / "squared.cu", "squared.cu")
    text = Path("squared.cu").read_text()
    head, first, rest = text.partition('extern "C"')
    block = head + 'extern "C" {\n' + (first + rest).replace('extern "C" ', "") + "}\n"
    for report in reports("squared.py", "Squared", "squared.cu", "squared"):
        assert report.ok
    Path("squared.cu").write_text(block)
    assert block.count('extern "C"') == 1
    report = check_layer(run_file(Path("squared.py")).Squared, (2, 3, 4), backend="emu")
    assert report.ok, report.full()
    assert [check.status for check in report.checks if check.name == "parity_emu"] == ["PASS"]


def test_a_wrong_name_that_no_method_launches_is_told():
    launching = """
    def bprop_gpu(self, x, dy, dx, beta):
        if dx is not None:
            self.be.launch(self, "squared_bprop", dx[0].size, len(dx), x=x, dy=dy, dx=dx, beta=beta)
"""
    Path("squared.py").write_text(LAYER + launching)
    text = (HELPERS / "squared.cu").read_text().replace("squared_fprop", "squared_forward")
    Path("squared.cu").write_text(text)
    report = check_layer(run_file(Path("squared.py")).Squared, (2, 3, 4), backend="emu")
    said = "squared.cu has kernels squared_forward; looked for squared.cu with squared_fprop"
    assert report.failed[0].detail.startswith(said)


FPROP = """
#include "minet.cuh"
extern "C" __global__ void squared_fprop(const float *x, float *y, int C, int H, int W, int N, float beta) {
    for (count_t row = blockIdx.y; row < C * H; row += gridDim.y) {
        count_t m = INDEX;
        if (m < W * N) put(y + row * W * N + m, x[row * W * N + m] * fabsf(x[row * W * N + m]), beta);
    }
}
"""


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("threadIdx.x", "hint: no barrier orders two blocks: "),
        (
            "threadIdx.x + 2 * blockIdx.x * blockDim.x",
            "where a row takes more than one block of threads: at N",
        ),
        ("threadIdx.x + blockIdx.x * blockDim.x", ""),
    ],
)
def test_a_kernel_that_is_right_for_one_block_only_fails(index, said):
    """It is the only one of its layer: bprop computes on the host."""
    Path("squared.py").write_text(LAYER)
    Path("squared.cu").write_text(FPROP.replace("INDEX", index))
    report = check_layer(run_file(Path("squared.py")).Squared, (2, 3, 4), backend="emu")
    assert [check.name for check in report.failed] == (["parity_emu"] if said else []), report.full()
    assert said in str(report)
