"""What the loops share: weighted sums of rows, and machine code on disk that is never out of date."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from numba import njit

import minet.loops
from minet.loops import SHARED, forget_stale
from minet.loops.simd.lanes import address
from minet.loops.simd.rows import add_long, add_rows, combine


@pytest.fixture
def shared(tmp_path):
    """The files that others inline, in an empty folder."""
    files = [tmp_path / name for name in SHARED]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return files


def test_a_change_in_shared_code_drops_compiled_kernels(tmp_path, shared):
    for folder in ("", "conv"):
        (tmp_path / folder / "__pycache__").mkdir()
    old, new = (tmp_path / name for name in ("conv/__pycache__/gemm.nbi", "__pycache__/relu.nbi"))
    for file, time in [*((file, 100) for file in shared), (old, 99), (new, 101)]:
        file.touch()
        os.utime(file, (time, time))
    forget_stale(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)
    os.utime(tmp_path / "window.py", (102, 102))
    forget_stale(tmp_path)
    assert not new.exists()


def test_without_a_cache_there_is_nothing_to_drop(tmp_path, shared):
    forget_stale(tmp_path)


def test_what_kernels_of_other_files_inline_is_shared():
    """Numba's cache of a file does not notice changes in kernels imported from another file."""
    loops = Path(minet.loops.__file__).parent
    sources = {path.relative_to(loops).as_posix(): path.read_text() for path in loops.rglob("*.py")}
    inlined = {"__init__.py"}
    for text in sources.values():
        for module, names in re.findall(
            r"^from minet\.loops\.([\w.]+) import \(?([\w\s,]+)", text, re.MULTILINE
        ):
            file = f"{module.replace('.', '/')}.py"
            if any(defines_inlined(sources[file], name) for name in re.findall(r"\w+", names)):
                inlined.add(file)
    assert inlined <= set(SHARED) and set(SHARED) <= sources.keys()


def defines_inlined(text, name):
    """Whether the text defines a function of that name for kernels to call, not only for Python."""
    return re.search(rf"^@(kernel|intrinsic|njit)\b.*\n(?:.*\n)??def {name}\(", text, re.MULTILINE)


@njit
def added(out, src, pitch, n, taps, w, beta):
    add_rows(address(out, 1), address(src, 2), pitch, n, taps, address(w, 0), 2, beta)


@njit
def added_by_one_weight(out, src, pitch, n, taps, w, beta):
    add_rows(address(out, 1), address(src, 2), pitch, n, taps, w, 0, beta)


@njit
def both(out, src, pitch, n, taps, w, beta, d, g):
    combine(
        address(out, 1), address(src, 2), pitch, n, taps, address(w, 0), 2, beta, address(d, 3), address(g, 1)
    )


@njit
def slopes_alone(src, pitch, n, taps, w, beta, d, g):
    combine(None, address(src, 2), pitch, n, taps, address(w, 0), 2, beta, address(d, 3), address(g, 1))


@njit
def added_up_long(out, src, pitch, n, taps, share, beta, total):
    add_long(address(out, 1), address(src, 2), pitch, n, taps, share, beta, total)


@pytest.mark.parametrize(("beta", "old"), [(0, np.nan), (1, 4), (-0.5, 4)])
def test_a_long_sum_keeps_its_digits_and_what_was_there(beta, old):
    """0.1 a million times, in float32, is 100,958 if added one by one."""
    taps, n, pitch = 1_000_000, 3, 3
    src, out = np.full(2 + taps * pitch, 0.1, "float32"), np.full(n + 2, old, "float32")
    out[[0, -1]] = np.nan
    added_up_long(out, src, pitch, n, taps, 2.0, np.float32(beta), np.empty(n))
    assert np.isnan(out[[0, -1]]).all()
    expected = 2 * taps * float(np.float32(0.1)) + (beta * old if beta else 0)
    np.testing.assert_allclose(out[1:-1], expected, rtol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 8, 16, 17, 40])
def test_rows_are_added_up_whatever_their_number_and_length(dtype, n):
    draw, pitch, tolerance = np.random.default_rng(n), n + 3, {"rtol": 1e-5 if dtype == "float32" else 1e-13}
    for taps in range(13):
        src = draw.uniform(1, 2, 2 + taps * pitch + n).astype(dtype)
        w, d = draw.uniform(1, 2, (taps + 1, 2)).astype(dtype), draw.uniform(1, 2, n + 3).astype(dtype)
        rows = np.array([src[2 + k * pitch :][:n] for k in range(taps)], "float64").reshape(taps, n)
        sums, w1 = w[:taps, 0].astype("float64") @ rows, w.dtype.type(3)
        for beta, old in ((0, np.nan), (0.5, 4)):
            results = []
            for run, weights in ((added, w.reshape(-1)), (added_by_one_weight, w1), (both, w.reshape(-1))):
                out, g = np.full(n + 2, old, dtype), np.full((taps + 1, 2), 5.0)
                more = (d, g.reshape(-1)) if run is both else ()
                out[[0, -1]] = np.nan
                run(out, src, pitch, n, taps, weights, w.dtype.type(beta), *more)
                assert np.isnan(out[[0, -1]]).all()  # elements outside are untouched
                results.append(out[1:-1])
            for result, total in zip(results, (sums, 3 * rows.sum(0), sums), strict=True):
                np.testing.assert_allclose(result, total + (beta * old if beta else 0), **tolerance)
            alone = np.full((taps + 1, 2), 5.0)
            slopes_alone(src, pitch, n, taps, w.reshape(-1), w.dtype.type(beta), d, alone.reshape(-1))
            for slopes in (g, alone):
                np.testing.assert_allclose(slopes[:taps, 1], 5 + rows @ d[3:].astype("float64"), **tolerance)
                assert (slopes[:, 0] == 5).all() and slopes[taps, 1] == 5


@pytest.mark.parametrize("taps", range(1, 8))
def test_an_infinity_stays_one(taps):
    out, src = np.zeros(4, "float32"), np.full(2 + 2 * taps, np.inf, "float32")
    added_by_one_weight(out, src, 2, 2, taps, np.float32(0.5), np.float32(0))
    assert (out[1:3] == np.inf).all()
