"""PyTorch's and ONNX's own test inputs through minet's layers, and docs/peers.md, which counts them."""

import re
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numba
import numpy as np
import pytest
from peers import Case, Inputs

from minet import backends
from minet.layers import MaxPool

PAGE = (Path(__file__).parents[2] / "docs/peers.md").read_text()
ROWS = dict(re.findall(r"^(?=\| `(\w+)`)(.*)$", PAGE, re.MULTILINE))
PEERS = {"from_torch": ("torch", "expecttest"), "from_onnx": ("onnx",)}


@pytest.fixture(autouse=True)
def one_thread():
    """Of a few pixels' time, most would go into handing them to threads."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


def peer(name):
    for package in PEERS[name]:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[dev,bench]'")
    return import_module(name)


def peer_of(op):
    return "from_torch" if op.islower() else "from_onnx"


def counted(name):
    """Fail unless the installed version, which pyproject.toml pins, is that of the page's counts."""
    package = PEERS[name][0]
    on_page = re.search(rf"`{package}` ([\d.]+\d)", PAGE)[1]
    assert version(package).partition("+")[0] == on_page, f"count again by tests/peers/table.py: {package}"


@pytest.mark.slow
@pytest.mark.parametrize("op", ROWS)
def test_minet_agrees(op):
    inputs = peer(peer_of(op)).inputs(op)
    dtype, tolerance = ("float64", 1e-12) if op.islower() else ("float32", 1e-6)
    inputs.check("cpu", dtype, inputs.cases, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("op", ROWS)
def test_minet_agrees_on_the_emulator(op):
    if why := backends.missing("emu"):
        pytest.skip(why)
    inputs = peer(peer_of(op)).inputs(op)
    inputs.check("emu", "float32", inputs.on_emu, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("op", ROWS)
def test_the_page_counts_what_is_expressed(op):
    inputs = peer(peer_of(op)).inputs(op)
    counted(peer_of(op))
    assert inputs.row == ROWS[op], "tests/peers/table.py prints the table of docs/peers.md"


@pytest.mark.parametrize("name", PEERS)
def test_the_page_has_every_operator(name):
    assert list(peer(name).OPS) == [op for op in ROWS if peer_of(op) == name]


def test_the_sums_on_the_page():
    cells = [[int(n.replace(",", "")) for n in row.split("|")[2:5]] for row in ROWS.values()]
    total, met, on_emu = np.sum(cells, axis=0)
    left_out = sum(int(n) for row in ROWS.values() for n in re.findall(r"(\d+): ", row))
    assert met + left_out == total
    assert f"| all | {total:,} | {met:,} | {on_emu} | {left_out} |" in PAGE
    assert f"Of {total:,} inputs {met:,} agree, none differs, and {left_out} " in PAGE
    assert met >= 1530 and total == 1634


def test_a_difference_is_found():
    """A case that differs in any of its arrays, or in a shape, fails; so does one that minet refuses."""
    x = np.array([[1.0, 3.0], [2.0, 0.0]]).reshape(1, 2, 2, 1)
    y, dy, dx = (
        np.full((1, 1, 1, 1), 3.0),
        np.full((1, 1, 1, 1), 5.0),
        np.array([0, 5, 0, 0.0]).reshape(x.shape),
    )
    right = {"y": y, "dx": dx, "argmax": np.ones((1, 1, 1, 1))}

    def check(layer=None, **wrong):
        case = Case(layer or MaxPool(2), x, dy, expected=right | wrong)
        Inputs("pool", {"the sample": lambda: case}).check("cpu", "float64", ["the sample"], 1e-12)

    check()
    for wrong in ({"y": y + 1e-10}, {"dx": -dx}, {"argmax": 0 * y}, {"y": y[0]}, {"layer": MaxPool(3)}):
        with pytest.raises(
            AssertionError, match=r"pool on cpu: 1 of 1 inputs differ; the first is the sample"
        ):
            check(**wrong)
