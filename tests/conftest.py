"""What all tests share: at least two threads, a few fixed hypothesis examples, and the backends."""

import os
from functools import partial

import pytest
from hypothesis import settings

# Numba reads this at import. Two threads even on one core expose sums that depend on thread order.
os.environ["NUMBA_NUM_THREADS"] = str(max(2, os.cpu_count() or 1))

settings.register_profile("minet", derandomize=True, deadline=None, max_examples=20, database=None)
settings.load_profile("minet")


@pytest.hookimpl(tryfirst=True)  # before pytest takes its choice by marks
def pytest_collection_modifyitems(items):
    """Mark as slow what `make test` leaves out of each test marked `sweep`."""
    cases = {}
    for item in items:
        left_out = item.get_closest_marker("gpu") or item.get_closest_marker("slow")
        if (mark := item.get_closest_marker("sweep")) and not left_out:
            cases.setdefault((item.parent.nodeid, item.originalname), (mark.args[0], []))[1].append(item)
    for quick, found in cases.values():
        kept = {round(place * (len(found) - 1) / max(quick - 1, 1)) for place in range(quick)}
        for place, item in enumerate(found):
            if place not in kept:
                item.add_marker("slow")


def available(name):
    from minet import backends

    if why := backends.missing(name):
        pytest.skip(why)
    return name


@pytest.fixture(params=["cpu", "emu", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request):
    """Every backend, by name; the test is skipped where it cannot be used."""
    return available(request.param)


PLACES = {
    "cpu": ("cpu", "float64"),
    "cpu-float32": ("cpu", "float32"),
    "emu": ("emu", "float32"),
    "cuda": ("cuda", "float32"),
}


@pytest.fixture(params=[pytest.param(p, marks=[pytest.mark.gpu] * (p == "cuda")) for p in PLACES])
def place(request):
    """Every backend with a type that it computes in: what `run` and `dtype` take theirs from."""
    name, dtype = PLACES[request.param]
    return available(name), dtype


@pytest.fixture
def dtype(place):
    return place[1]


@pytest.fixture
def run(place):
    """`minet.testing.run` in every place: what is worked out by hand holds in all of them."""
    from minet.testing import run

    return partial(run, backend=place[0], dtype=place[1])


@pytest.fixture(params=["emu", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu_backend(request):
    """The backends that run CUDA kernels."""
    return available(request.param)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A real browser, without a display; the test is skipped where none is installed."""
    from browser import Browser, program

    if program() is None:
        pytest.skip("no browser is installed: apt-get install chromium")
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def doubles(tmp_path_factory):
    """The folder of the doubles of NVIDIA's driver, cuBLAS and nvcc, on which PyCUDA runs without a card."""
    from fake_driver import double

    if why := double.missing():
        pytest.skip(f"the driver's double: {why}")
    folder = tmp_path_factory.mktemp("double")
    double.build(folder)
    return folder
