"""No loop touches what lies outside its arrays: Numba checks no bounds, so a fence of memory does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow  # every layer's loops are compiled, in a process of its own


@pytest.mark.skipif(sys.platform == "win32", reason="there is no mprotect on Windows")
@pytest.mark.parametrize("side", ["behind", "before"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_stay_inside_their_arrays(side, dtype):
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS / "testing", TESTS / "helpers")))
    done = subprocess.run(
        [sys.executable, TESTS / "helpers" / "fenced.py", side, dtype], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": paths}, check=False,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1:]
    assert (done.returncode, last) == (0, ["no fence was touched"]), done.stderr
