"""What kernels have in common: machine code on disk that is never older than its sources."""

import os

from minet.kernels import SHARED, forget_stale


def test_a_change_in_shared_code_drops_compiled_kernels(tmp_path):
    (tmp_path / "__pycache__").mkdir()
    old, new = (tmp_path / "__pycache__" / name for name in ("lrn.nbi", "relu.nbi"))
    for file, time in [*((tmp_path / name, 100) for name in SHARED), (old, 99), (new, 101)]:
        file.touch()
        os.utime(file, (time, time))
    forget_stale(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)
    os.utime(tmp_path / "window.py", (102, 102))
    forget_stale(tmp_path)
    assert not new.exists()


def test_without_a_cache_there_is_nothing_to_drop(tmp_path):
    for name in SHARED:
        (tmp_path / name).touch()
    forget_stale(tmp_path)
