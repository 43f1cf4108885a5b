"""Numba loops with an index out of bounds: a failed check with file and line, never a dead process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet import MinetError
from minet.cli.main import app
from minet.testing import bounds, process

LOOPS = """
from numba import prange
from minet.loops import kernel, parallel_kernel


@parallel_kernel()
def fprop(x, y, beta):
    C, H, W, N = x.shape
    for c in prange(C):
        for h in range(H):
            for n in range(W * N):
                old = beta * y[c, h, n // N, n % N] if beta else 0
                y[c, h, n // N, n % N] = 2 * x[c, h, n // N, n % N] + old


@kernel()
def total(rows, out):
    for r in range(len(rows)):
        for i in range(rows.shape[1]):
            out[r] += rows[r, i]
"""
LAYER = """
from minet import Layer, Param, update

class Double(Layer):
    def out_shape(self, in_shape):
        return in_shape
    def params(self, in_shape):
        return {"a": Param((in_shape[0],), 1.0)}
    def fprop_cpu(self, x, y, beta, train):
        from double_loops import fprop
        fprop(x * self.p.a[:, None, None, None], y, beta)
    def bprop_cpu(self, x, dy, dx, beta):
        from double_loops import total
        total((2 * x * dy).reshape(len(x), -1), self.g.a)
        if dx is not None:
            update(dx, 2 * dy * self.p.a[:, None, None, None], beta)
    @classmethod
    def examples(cls):
        yield cls, (3, 4, 5)
"""


AGAIN = "a check fails: it runs again, with every index of its Numba loops checked\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("double.py").write_text(LAYER)
    Path("double_loops.py").write_text(LOOPS)


def check(*options):
    result = CliRunner().invoke(app, ["check", "double.py", *options])
    return result.exit_code, result.stdout, result.stderr


def plant(old, new):
    """Put a fault into the loops; return its place."""
    assert LOOPS.count(old) == 1
    text = LOOPS.replace(old, new)
    Path("double_loops.py").write_text(text)
    return text


@pytest.mark.slow
def test_right_loops_pass_with_and_without_bounds_checks():
    for options in ((), ("--bounds",)):
        status, out, err = check("-q", *options)
        assert (status, err) == (0, "") and out.startswith("ok    Double() on (3, 4, 5), batch 3, cpu: ")


def test_a_check_that_dies_runs_again_with_bounds_checks():
    text = plant("for h in range(H):", "for h in range(H + 100000):")
    status, out, err = check()
    assert status == 1, err
    assert re.fullmatch(
        r"the check died with SIG[A-Z]+: it runs again, with every index of .* checked\n", err
    )
    line = next(n for n, code in enumerate(text.splitlines(), 1) if "] = 2 * x[" in code)
    title, fail, why, at, also, *_ = out.splitlines()
    assert title == "Double() on (3, 4, 5), batch 3, cpu"
    assert fail == "  FAIL  shape  index 4 is out of bounds for axis 1 of size 4"
    assert why.strip().startswith(
        "likely cause: the loop's end, or the index, in: y[c, h, n // N, n % N] = 2 * x["
    )
    assert at.strip() == f"at double_loops.py:{line}, fprop" and also.startswith("  also fails: untouched, ")
    assert "malloc" not in out + err


@pytest.mark.slow
def test_bounds_finds_an_index_one_too_far_that_nothing_else_shows():
    text = plant("out[r] += rows[r, i]", "out[r] += rows[r, i] + 0 * rows[r, i + 1]")
    line = next(n for n, code in enumerate(text.splitlines(), 1) if "out[r] +=" in code)
    status, out, err = check("--bounds")
    assert (status, err) == (1, "")
    assert "FAIL  shape  index 60 is out of bounds for axis 1 of size 60\n" in out
    assert f"at double_loops.py:{line}, total\n" in out


@pytest.mark.slow
def test_a_failure_whose_indices_are_within_bounds_is_shown_as_it_is():
    plant("= 2 * x[", "= 3 * x[")
    status, out, err = check()
    assert (status, err) == (1, AGAIN)
    assert "FAIL  gradient" in out


@pytest.mark.slow
def test_what_has_no_index_to_blame_is_an_error():
    Path("double.py").write_text(
        "import os, signal\n"
        + LAYER.replace("        fprop(", "        os.kill(os.getpid(), 9)\n        fprop(")
    )
    status, out, err = check()
    assert status == 2 and out == "" and err.count("error:") == 1
    assert (
        "error: double.py: the check died with SIGKILL, with each index checked too\n  hint: python -X fault"
        in err
    )


def test_a_check_that_waits_for_itself_is_ended(monkeypatch):
    monkeypatch.setattr(process, "LIMIT", 2)
    waits = "        import threading; threading.Barrier(2).wait()\n"
    Path("double.py").write_text(LAYER.replace("        fprop(", f"{waits}        fprop("))
    status, out, err = check()
    still = "the check stood still: it computed nothing for 2 s"
    assert (status, out) == (2, "")
    assert err.startswith(f"{still}: it runs again, with every index of its Numba loops checked\nerror: ")
    assert f"error: double.py: {still}, with each index checked too\n  hint: python -X fault" in err


def test_the_time_of_what_a_check_starts_counts_as_its_own():
    burns = "import sys, time\nwhile time.process_time() < 1: pass\nprint('!', flush=True)\nsys.stdin.read()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burns!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starts:
        assert starts.stdout.read(1) == b"!"
        assert process.computed(starts.pid) >= os.sysconf("SC_CLK_TCK")
        starts.stdin.close()
        starts.stdout.read()
    assert process.computed(starts.pid) == 0


def test_a_numba_without_what_is_replaced_is_named(monkeypatch):
    monkeypatch.delattr("numba.core.cgutils.do_boundscheck")
    with pytest.raises(MinetError, match=r"--bounds cannot name .* Numba \d.*do_boundscheck") as caught:
        bounds.name_places()
    assert caught.value.hint.startswith("pip install 'numba~=0.68.0'")


def test_it_is_for_the_cpu():
    assert check("--bounds", "--backend", "emu")[0] == 2
    with pytest.raises(MinetError, match="--bounds is for loops on the cpu, got emu"):
        bounds.again("double.py", "emu", [])


def test_which_files_are_checked_in_a_process_of_their_own():
    Path("plain.py").write_text(LAYER.replace("double_loops", "numpy"))
    Path("far.py").write_text("import double")
    assert [process.needed(name) for name in ("double.py", "double.py:Double", "far.py")] == [True] * 3
    assert [process.needed(name) for name in ("plain.py", "none.py", "prelu")] == [False] * 3


def test_an_index_is_named_with_its_line_and_function():
    error = bounds.OutOfBounds("double_loops.py", 19, 7, -1, 7)
    assert str(error) == "index 7 is out of bounds for size 7 at double_loops.py:19, total"
    try:
        raise SystemError from error
    except SystemError as outer:
        assert bounds.cause(outer) is error
    assert bounds.cause(ValueError()) is None
