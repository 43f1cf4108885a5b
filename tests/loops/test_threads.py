"""Threads: a forked process is told at once, and where only workqueue loads, threads take turns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORK = """
import multiprocessing as mp, numpy as np
from minet.layers import PReLU; from minet.testing import run
def work(n):
    return float(run(PReLU(), -np.ones((1, 2, 2, n), "f4")).y.sum())
if {first}:
    work(3)
with mp.get_context("fork").Pool(2) as pool:
    try:
        print(pool.map_async(work, [1, 2, 3]).get(timeout=100))
    except Exception as error:
        print(type(error).__name__, error)
"""
THREADS = """
import threading, numpy as np
from minet import Net; from minet.layers import Conv, Linear, PReLU
results = []
def work():
    net = Net([Conv(4, 3), PReLU(), Linear(3)], (2, 16, 16), 8, seed=1)
    for _ in range(100):
        y = net.fprop(np.ones((2, 16, 16, 8), "f4"))
        net.bprop(y)
    results.append(y.tobytes())
workers = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in workers]; [t.join() for t in workers]
print(len(results), len(set(results)))
"""


def output(code, **env):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_forked_after_a_kernel_gets_an_error():
    # Of the layer that is always there: Intel's TBB would survive a fork.
    assert output(FORK.format(first=True), NUMBA_THREADING_LAYER="workqueue").startswith(
        "MinetError this process was forked after kernels had run"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_forked_before_the_first_kernel_works():
    assert output(FORK.format(first=False)) == "[-1.0, -2.0, -3.0]\n"


def test_with_workqueue_threads_take_turns():
    assert output(THREADS, NUMBA_THREADING_LAYER="workqueue") == "4 1\n"
    assert output(THREADS) == "4 1\n"


@pytest.mark.parametrize("wanted", ["forksafe", "WORKQUEUE"])
def test_the_layer_is_the_one_that_numba_takes(wanted):
    code = "from minet.loops import threads; from minet.layers import PReLU; from minet.testing import run\n"
    code += "import numba, numpy as np; run(PReLU(), np.ones((1, 2, 2, 3)))\n"
    code += "print(threads.LAYER == numba.threading_layer())"
    assert output(code, NUMBA_THREADING_LAYER=wanted) == "True\n"
