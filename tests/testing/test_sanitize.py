"""`minet check --sanitize` names the user's file, wherever it is run from and whatever its folder's name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minet import backends

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
    @classmethod
    def examples(cls):
        yield cls, (2, 3, 4)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("fabsf(x[i + C * H * W * N])", "AddressSanitizer: heap-buffer-overflow, a read of 4 bytes"),
        ("fabsf(x[i]) * (1 / (i - i))", "UBSan: division by zero"),
    ],
)
def test_the_file_is_named_from_any_folder(tmp_path, fault, message):
    mine, elsewhere = tmp_path / "my layers", tmp_path / "elsewhere"
    mine.mkdir()
    elsewhere.mkdir()
    (mine / "squared.py").write_text(LAYER)
    text = (HELPERS / "squared.cu").read_text().replace("fabsf(x[i])", fault, 1)
    (mine / "squared.cu").write_text(text)
    at = 1 + text[: text.index(fault)].count("\n")
    cases = {mine: "squared", tmp_path: "my layers/squared", elsewhere: str(mine / "squared")}
    for folder, file in cases.items():
        command = [sys.executable, "-m", "minet", "check", f"{file}.py", "--backend", "emu", "--sanitize"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(f"error: squared_fprop on the emulator: {message}\n  {file}.cu:{at}\n")
    shutil.rmtree(elsewhere)
