"""Guard pages: code that runs past an array of the kit dies there, and overwrites nothing else."""

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minet.core.memory import LINE, aligned
from minet.testing import guard_pages
from minet.testing.guard_pages import GUARD

ROOT = Path(__file__).parents[2]
CODE = """
import ctypes, sys
import numpy as np
from minet.core.memory import aligned
from minet.testing import guard_pages

guard_pages.put()
arrays = [aligned((size,), np.dtype(np.uint8)) for size in (1, 64, 4096, 10000)]
for array in arrays:
    array.fill(7)
    assert array.ctypes.data % 64 == 0 and array.sum() == 7 * array.size
array = arrays[int(sys.argv[1])]
print("alive", flush=True)
place = array.ctypes.data + int(sys.argv[2])
ctypes.memset(place, 1, 1) if sys.argv[3] == "writes" else ctypes.string_at(place, 1)
"""


@pytest.mark.parametrize("what", ["reads", "writes"])
@pytest.mark.parametrize(
    ("array", "at"), [(0, LINE), (1, 64), (2, 4096), (2, 4096 + GUARD - 1), (3, -mmap.PAGESIZE)]
)
def test_beyond_an_array_a_process_dies(array, at, what):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(array), str(at), what], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "alive\n"), done.stderr


def test_memory_comes_back_when_an_array_goes(monkeypatch):
    monkeypatch.setattr("minet.core.memory.new_bytes", guard_pages.new_bytes)
    for _ in range(50):
        array = aligned((1 << 30,), np.dtype(np.uint8))  # 50 GiB of addresses, of which one page is touched
        array[-1] = 1
        part = array[-2:].view(np.int16)
        del array
        assert part[0] >> 8 == 1


def test_arrays_move_between_guards_only_where_they_are_put(monkeypatch):
    array = np.arange(3.0)
    assert guard_pages.around(array) is array
    monkeypatch.setattr("minet.core.memory.new_bytes", guard_pages.new_bytes)
    guarded = guard_pages.around(array)
    assert guarded is not array and guarded.dtype == array.dtype and (guarded == array).all()


def test_where_a_system_gives_no_more_maps_arrays_go_without(monkeypatch):
    def no_more(*args, **kwargs):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("mmap.mmap", no_more)
    assert guard_pages.new_bytes(3).shape == (3,)
