"""The pytest plugin: one marker runs a test in every order and under the sanitizers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = '''import numpy as np
import pytest
from minet.emulator import RawKernel

SOURCE = """
__global__ void add(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += x[i];
}
__global__ void first(int *y) {
    if (threadIdx.x == 0) y[0] = blockIdx.x;  // the last block decides
}
__global__ void most(const float *x, float *y, int n) {
    float best;
    for (int i = 0; i < n; i++) best = x[i];
    y[0] = best;
}
__global__ void flag(int *y) { *y = 1; }
"""
KERNEL = RawKernel(SOURCE, "add")  # at import: the marker's settings reach it when it is called


@pytest.mark.emulator
def test_right():
    x, y = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
    KERNEL(2, 4, (x, y, 6))
    assert (y == x).all()


@pytest.mark.emulator(sanitize=False)
@pytest.mark.parametrize("n", [5, 7])
def test_past_the_end(n):
    x = np.zeros(6, np.float32)
    KERNEL(1, 8, (x, x.copy(), n))


@pytest.mark.emulator(orders=("forward",))
def test_uninitialised():
    x = np.zeros(6, np.float32)
    RawKernel(SOURCE, "most")(1, 1, (x, x.copy(), 0))


@pytest.mark.emulator(sanitize=False, allow="same_value_writes")
def test_allowed(emulator_settings):
    y = np.zeros(1, np.int32)
    RawKernel(SOURCE, "flag")(1, 8, (y,))
    assert RawKernel(SOURCE, "flag").settings.order is None
    print("in order", emulator_settings.order)


def test_without_the_marker():
    y = np.zeros(1, np.int32)
    RawKernel(SOURCE, "flag").check(allow="same_value_writes")(1, 8, (y,))
'''


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "conftest.py").write_text('pytest_plugins = ["minet.emulator.pytest"]\n')
    (folder / "test_of_a_user.py").write_text(FILE)
    command = [sys.executable, "-m", "pytest", "-v", "-rP", "--strict-markers", "-p", "no:cacheprovider", "."]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.stdout


def outcomes(report, test):
    return dict(re.findall(rf"::{test}(?:\[(.*?)\])? (PASSED|FAILED|ERROR)", report))


@pytest.mark.slow
def test_a_marked_test_runs_in_three_orders_and_under_the_sanitizers(report):
    expected = ["forward", "reversed", "shuffled", "sanitized"]
    assert outcomes(report, "test_right") == dict.fromkeys(expected, "PASSED")
    assert outcomes(report, "test_without_the_marker") == {"": "PASSED"}


@pytest.mark.slow
def test_the_marker_goes_with_other_parameters(report):
    found = outcomes(report, "test_past_the_end")
    assert len(found) == 6
    assert all((how == "FAILED") == ("7" in name) for name, how in found.items())


@pytest.mark.slow
def test_the_marker_says_what_is_checked_and_allowed(report):
    assert outcomes(report, "test_uninitialised") == {"forward": "PASSED", "sanitized": "FAILED"}
    assert outcomes(report, "test_allowed") == dict.fromkeys(["forward", "reversed", "shuffled"], "PASSED")
    assert [order for order in ("forward", "reversed", "shuffled") if f"in order {order}" in report] == [
        "forward", "reversed", "shuffled"]  # fmt: skip


def test_a_failure_names_kernel_line_block_and_thread_and_shows_the_call(report):
    part = report[report.index("_ test_past_the_end[") :]
    part = part[: part.index("\n____")]
    assert "add on the emulator: a " in part and "right past the end of" in part
    assert re.search(r"source\.cu:4, block \(0, 0, 0\), thread \(6, 0, 0\)", part)
    assert "KERNEL(1, 8, (x, x.copy(), n))" in part
    assert "minet/emulator" not in part
