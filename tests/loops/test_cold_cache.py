"""The process that compiles kernels computes the same bits as those that find them in the cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import hashlib, numpy as np
from minet.layers import LRN, AvgPool, BatchNorm, Conv, GaussianPool, Linear, PReLU
from minet.testing import run
draw, digest = np.random.default_rng(0), hashlib.sha256()
layers = PReLU(), Conv(4, 1), Conv(3, 3), BatchNorm(), LRN(), AvgPool(3, 2), GaussianPool(5, 2, 2), Linear(3)
for layer in layers:
    for dtype in ("float32", "float64"):
        x = draw.standard_normal((4, 19, 21, 32)).astype(dtype)
        dy = draw.standard_normal((*layer.out_shape(x.shape[:3]), 32)).astype(dtype)
        out = run(layer, x, dy)
        for array in (out.y, out.dx, *out.grads.values()):
            digest.update(array.tobytes())
print(digest.hexdigest())
"""


def digest(folder):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_cold_and_a_warm_cache_give_the_same_bits(tmp_path):
    cold = digest(tmp_path)
    assert len(cold) == 65 and digest(tmp_path) == cold
