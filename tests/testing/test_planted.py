"""A class of one's own with Numba loops, a .cu and a loss goes through `minet check` as its author sees it.

Right, it passes. With a fault planted, the first line names the cause and the author's file and line.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minet import backends

pytestmark = pytest.mark.skipif(bool(backends.missing("emu")), reason=f"no g++: {backends.missing('emu')}")
ROOT = Path(__file__).parents[2]
OWN = ROOT / "tests/helpers/own"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The author's folder; its loops are compiled once."""
    return shutil.copytree(OWN, tmp_path_factory.mktemp("own") / "files")


@pytest.fixture
def folder(compiled, tmp_path):
    """The same files, of the same times: what is not changed is not compiled again."""
    return shutil.copytree(compiled, tmp_path / "files")


def check(folder, *options):
    """Exit status, output and error output of `minet check smooth_max.py`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "minet", "check", "smooth_max.py", *options]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def plant(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "emu"])
def test_a_right_layer_and_a_right_loss_pass(compiled, backend):
    status, out, err = check(compiled, "-q", "--backend", backend)
    assert (status, err) == (0, "")
    layer, *losses = [line.partition(": ")[0] for line in out.splitlines() if line.startswith("ok")]
    assert layer == f"ok    SmoothMax() on (3, 4, 5), batch 3, {backend}"
    assert losses == [
        f"ok    LogCosh() on {shape}, batch 6, {backend}" for shape in ("(3, 2, 4)", "(4, 1, 1)")
    ]


# A planted fault: file, old and new text; the first check that fails, what is found, why; a text in its line.
FAULTS = {
    "an index one too far": (
        "smooth_max_loops.py", "range(1, x.shape[1])", "range(1, x.shape[1] + 1)",
        "shape", "index 20 is out of bounds for axis 1 of size 20",
        "the loop's end, or the index, in: most = max(most, x[c, m, n])", "most = max(most",
    ),
    "a missing beta": (
        "smooth_max_loops.py", "y[c, n] = value if beta == 0 else beta * y[c, n] + value", "y[c, n] = value",
        "beta_y", "y[2, 0, 0, ", "at beta 0.5, train=True, fprop must write beta*y + f(x)", "def fprop_cpu",
    ),
    "a gradient twice too large": (
        "smooth_max_loops.py", "value = dy[c, n] *", "value = 2 * dy[c, n] *",
        "gradient", "dx[", "2 times the expected values everywhere: added twice?", "def bprop_cpu",
    ),
    "a smooth maximum that overflows": (
        "smooth_max_loops.py", "return most", "return x.dtype.type(0)",
        "magnitude", "for x from -80 to 100: expected ", "an exponential or power overflows", "def fprop_cpu",
    ),
    "a race": (
        "smooth_max.cu", "if (blockIdx.x == 0 && threadIdx.x == 0)", "if (blockIdx.x == 0)",
        "parity_emu", "a race: two threads access the same place: da[0], with no barrier between them",
        "hint: put __syncthreads() between them, or __syncwarp() if one warp works alone", "da[c] += dy",
    ),
    "a loss's gradient twice too large": (
        "smooth_max.py", "np.tanh(apart) / y.size", "2 * np.tanh(apart) / y.size",
        "gradient", "dy[", "2 times the expected values everywhere: added twice?", "def loss_cpu",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=[pytest.mark.slow] * (name != "a race")) for name in FAULTS]
)
def test_the_first_line_names_the_cause_and_the_authors_line(folder, fault):
    file, old, new, name, found, why, line = FAULTS[fault]
    plant(folder / file, old, new)
    status, out, _ = check(folder)
    report = next(part for part in out.split("\n\n") if "  FAIL" in part)
    assert status == 1 and report.splitlines()[1].startswith(f"  FAIL  {name}  ")
    told = report.partition("also fails")[0]
    assert found in told and why in told, report
    (place,) = [
        f"{path.name}:{number}"
        for path in folder.glob("smooth_max*.*")
        for number, text in enumerate(path.read_text().splitlines(), 1)
        if line in text
    ]
    assert place in told, report


@pytest.mark.slow
def test_a_wrong_name_of_a_cu_file(folder):
    (folder / "smooth_max.cu").rename(folder / "smoothmax2.cu")
    status, out, _ = check(folder)
    said = "smoothmax2.cu is not used; looked for smooth_max.cu with smooth_max_fprop or smooth_max_bprop"
    assert status == 1 and out.splitlines()[1] == f"  FAIL  parity_emu  {said}"
    assert re.search(r"\n +at smooth_max\.py:\d+, SmoothMax\n", out)
