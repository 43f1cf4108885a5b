"""Elementwise against values worked out by hand, against mpmath's own derivatives, and against PReLU."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest

from minet import LayerError, MinetError, Net
from minet.core.init import Gaussian
from minet.layers import Elementwise, PReLU
from minet.testing import layer_checks
from minet.testing import run as run_once

ROOT = Path(__file__).parents[2]
test_conformance = pytest.mark.sweep(32)(layer_checks(Elementwise))


def column(*values):
    return np.array(values, float).reshape(len(values), 1, 1, 1)


def test_by_hand(run):
    x, dy = column(1, -2, 3).repeat(2, -1), column(1, 10, 100).repeat(2, -1)
    layer = Elementwise("b * x ** 2 - x / 2", b=1.0)
    out = run(layer, x, dy, params={"b": [1, 2, 3]}, beta_y=-1, y0=np.ones_like(x), beta_dx=2, dx0=x)
    np.testing.assert_array_equal(out.y[..., 1].ravel(), [0.5 - 1, 9 - 1, 25.5 - 1])
    np.testing.assert_array_equal(out.dx[..., 0].ravel(), [1.5 + 2, -85 - 4, 1750 + 6])
    np.testing.assert_array_equal(out.grads.b, [2 * 1, 2 * 40, 2 * 900])


@pytest.mark.sweep(1)
def test_shared_and_by_channel_in_one_expression(run):
    x = column(1, 2, 4)
    out = run(Elementwise("a * x + b", a=3.0, b=[1, 2, 3], shared=["a"]), x, 10 * x)
    np.testing.assert_array_equal(out.y.ravel(), [4, 8, 15])
    np.testing.assert_array_equal(out.dx.ravel(), [30, 60, 120])
    np.testing.assert_array_equal(out.grads.a, [10 + 40 + 160])
    np.testing.assert_array_equal(out.grads.b, [10, 20, 40])


@pytest.mark.slow
def test_at_a_kink_the_slope_is_that_of_the_side_that_the_condition_names(run):
    def slope(expression):
        return run(Elementwise(expression), column(0), column(1)).dx.item()

    for expression in ("max(x, 0)", "max(0, x)", "relu(x)", "abs(x)"):
        assert slope(expression) == 0, expression
    assert [slope("where(x > 0, 2 * x, 3 * x)"), slope("2 * x if x >= 0 else 3 * x")] == [3, 2]


@pytest.mark.sweep(1)
def test_the_branch_that_is_not_taken_has_no_influence(run):
    x = column(4.0, -1.0)
    out = run(Elementwise("where(x > 0, sqrt(x), b * x)", b=0.5, shared=True), x, column(np.inf, 2.0))
    np.testing.assert_array_equal(out.y.ravel(), [2, -0.5])
    np.testing.assert_array_equal(out.dx.ravel(), [np.inf, 1])
    np.testing.assert_array_equal(out.grads.b, [-2])


def test_a_quotient_of_whole_numbers_is_not_whole(run):
    out = run(Elementwise("x + 1 / (3 if x > 0 else 4)"), column(1, -1))
    np.testing.assert_allclose(out.y.ravel(), [4 / 3, -3 / 4], rtol=1e-7)


@pytest.mark.sweep(1)
def test_nan_is_not_hidden(run):
    for expression in ("max(x, 0)", "min(0, x)", "abs(x)", "max(x, b)", "max(b, x)"):
        params = {"b": 1.0} if "b," in expression or ", b" in expression else {}
        assert np.isnan(run(Elementwise(expression, **params), column(np.nan)).y.item()), expression


ORACLE = {
    "x * sigmoid(b * x)": lambda x, b: x / (1 + mpmath.exp(-b * x)),
    "where(x > 0, x, b * x)": lambda x, b: x if x > 0 else b * x,
    "b * x * tanh(softplus(x))": lambda x, b: b * x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "abs(x) ** b + log1p(x * x)": lambda x, b: abs(x) ** b + mpmath.log1p(x * x),
    "x / (1 + exp(-b * x)) ** 2": lambda x, b: x / (1 + mpmath.exp(-b * x)) ** 2,
    "log(1 + exp(x)) / b": lambda x, b: mpmath.log(1 + mpmath.exp(x)) / b,
    "0.5 * x * (1 + erf(x / sqrt(2 * b)))": lambda x, b: x * (1 + mpmath.erf(x / mpmath.sqrt(2 * b))) / 2,
    "sin(b * x) - cos(x) ** 3 * 2 ** -x": lambda x, b: mpmath.sin(b * x) - mpmath.cos(x) ** 3 * 2**-x,
    "expm1(x) if x < 0 and b > 0 else (x + b) ** 5": lambda x, b: mpmath.expm1(x) if x < 0 else (x + b) ** 5,
    "x ** -2 + x ** 12 / 1e3 + 1 / sqrt(b + x ** 4)": (
        lambda x, b: x**-2 + x**12 / 1000 + 1 / mpmath.sqrt(b + x**4)
    ),
    "min(max(x, -b), b * pi / 2)": lambda x, b: min(max(x, -b), b * mpmath.pi / 2),
    "where(not 0.1 < x < 1 or x == 3, b, log(x))": lambda x, b: mpmath.log(x) if 0.1 < x < 1 else b,
}
PLACES = [-2.9, -0.83, -0.31, 0.07, 0.52, 0.94, 1.7]


@pytest.mark.sweep(2)
@pytest.mark.parametrize("expression", ORACLE)
def test_mpmaths_values_and_derivatives(run, dtype, expression):
    exact, rtol = ORACLE[expression], 1e-12 if dtype == "float64" else 3e-6
    x, dy = np.array(PLACES).astype(dtype), np.linspace(1, 2, len(PLACES)).astype(dtype)
    for b in (0.75, 1.3):
        shape = (1, len(PLACES), 1, 1)
        out = run(Elementwise(expression, b=b), x.reshape(shape), dy.reshape(shape))
        b = float(np.asarray(b, dtype))
        slopes = [mpmath.diff(exact, (float(v), b), (1, 0)) for v in x]
        grads = [mpmath.diff(exact, (float(v), b), (0, 1)) for v in x]
        y = [float(exact(float(v), b)) for v in x]
        np.testing.assert_allclose(out.y.ravel(), y, rtol=rtol, atol=rtol)
        expected = dy.astype(float) * np.array([float(s) for s in slopes])
        np.testing.assert_allclose(out.dx.ravel(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())
        total = math.fsum(float(g) * float(d) for g, d in zip(grads, dy, strict=True))
        size = sum(abs(float(g)) * float(d) for g, d in zip(grads, dy, strict=True))
        np.testing.assert_allclose(out.grads.b, [total], rtol=rtol, atol=rtol * size)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("shared", [False, True])
def test_the_same_bits_as_prelu_over_several_blocks(run, dtype, shared):
    x, dy = np.random.default_rng(0).standard_normal((2, 3, 71, 53, 4)).astype(dtype)
    a = [0.3] if shared else [0.3, -1.0, 2.0]
    of = run(Elementwise("where(x > 0, x, a * x)", a=0.0, shared=shared), x, dy, params={"a": a})
    own = run(PReLU(shared=shared), x, dy, params={"a": a})
    np.testing.assert_array_equal(of.y, own.y)
    np.testing.assert_array_equal(of.dx, own.dx)
    np.testing.assert_allclose(of.grads.a, own.grads.a, rtol=1e-6 if dtype == "float32" else 1e-13)


@pytest.mark.sweep(1)
def test_long_sums_keep_float32s_digits(run):
    x = np.full((1, 1000, 100, 3), -0.1, np.float32)  # one running sum in float32 would be off by 1e-3
    out = run(Elementwise("b * x", b=1.0), x, np.ones_like(x))
    np.testing.assert_allclose(out.grads.b, np.float32(-0.1) * float(x.size), rtol=1e-6)


CAREFUL = ["x * sigmoid(x)", "x / (1 + exp(-x))", "softplus(x)", "log(1 + exp(x))"]


@pytest.mark.slow
@pytest.mark.parametrize("expression", CAREFUL)
def test_nothing_overflows(run, expression):
    out = run(Elementwise(expression), column(-1e4, 1e4), column(1, 1))
    np.testing.assert_array_equal(np.abs(out.y.ravel()), [0, 1e4])
    np.testing.assert_array_equal(np.abs(out.dx.ravel()), [0, 1])


# -- its code, and where it is kept -------------------------------------------------------------------


def test_the_source_is_as_one_would_write_it():
    layer = Elementwise("where(x > 0, x, a * x)", a=0.25)
    loops, kernels = layer.source(), layer.source("cuda")
    assert "result = value if value > real(0) else a_c * value\n" in loops
    assert "values.of[l] = value > 0.0f ? value : a_c * value;\n" in kernels
    for text in (loops, kernels):
        assert "dx = dy if x > 0 else a * dy" in text and '"where(x > 0, x, a * x)"' in text
        assert text.count("sigmoid") == 0 and "$" not in text and "\n\n\n\n" not in text
    assert "return (np.where(x > 0, x, a_c * x),)\n" in layer.source("numpy")
    with pytest.raises(LayerError, match=r"no source for 'tpu'[\s\S]*hint: source\(\"cpu\"\)"):
        layer.source("tpu")


def test_common_parts_are_computed_once():
    loops = Elementwise("x * tanh(softplus(b * x)) + tanh(softplus(b * x))", b=1.0).source()
    below = loops.partition("def elementwise_bprop")[2]
    assert below.count("softplus(") == below.count("tanh(") == 1
    loops = Elementwise("(b * x + 1) ** 5", b=1.0).source()
    assert loops.partition("def elementwise_fprop")[2].partition("def ")[0].count("b_c *") == 1


def test_each_direction_is_one_launch(monkeypatch):
    from minet.backends.emulator import Emulator

    layer, launched = Elementwise("a * x + b * sigmoid(x)", a=1.0, b=1.0, shared=["b"]), []
    net = Net([layer], (2, 3, 4), 4, backend="emu")
    start = Emulator.start
    monkeypatch.setattr(Emulator, "start", lambda *args: (launched.append(args[2].name), start(*args)))
    net.fprop(np.ones((2, 3, 4, 4), np.float32))
    net.bprop(net.dy)
    assert launched == ["elementwise_fprop", "elementwise_bprop"]
    net = Net([Elementwise("softplus(x)")], (2, 3, 4), 4, backend="emu")
    net.fprop(np.ones((2, 3, 4, 4), np.float32))
    net.bprop(net.dy)  # the first layer needs no dx, and has no parameters
    assert launched[2:] == ["elementwise_fprop"]


TWICE = """
import sys
from minet import Net
from minet.layers import Elementwise
from minet.loops import elementwise
net = Net([Elementwise("x * sigmoid(b * x) + c", b=1.0, c=0.5)], (2, 3, 4), 2)
net.fprop(net.be.zeros((2, 3, 4, 2)))
net.bprop(net.dy)
loops = elementwise.loops(net["0"].formula, net["0"].shared)
kernels = loops.elementwise_fprop, loops.elementwise_bprop
print(sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
print(loops.__file__)
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    """The text, which names the file, must not depend on the order of Python's sets either."""
    env = {n: v for n, v in os.environ.items() if n != "NUMBA_CACHE_DIR"} | {"PYTHONPATH": str(ROOT)}
    outputs, command = [], [sys.executable, "-c", TWICE]
    for seed in ("1", "2"):
        env |= {"MINET_CACHE": str(tmp_path), "PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.splitlines())
    (first, file), (second, same) = outputs
    assert (first, second) == ("2", "0") and file == same and Path(file).parent == tmp_path


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINET_CACHE", str(tmp_path / "file" / "cache"))
    net = Net([Elementwise("x + 17 * x ** 3")], (1, 1, 1), 1)
    found = r"cannot write to the cache[\s\S]*hint: set MINET_CACHE to a writable folder"
    with pytest.raises(MinetError, match=found):
        net.fprop(np.zeros((1, 1, 1, 1), np.float32))


def test_an_unbound_layer_can_be_pickled():
    layer = Elementwise("x * sigmoid(b * x)", b=1.0)
    again = pickle.loads(pickle.dumps(layer))
    assert again.source() == layer.source()
    np.testing.assert_array_equal(run_once(again, column(1.0)).y, run_once(layer, column(1.0)).y)


# -- settings -----------------------------------------------------------------------------------------


def test_first_values_and_decay():
    layer = Elementwise("a * x + b + c * x * x", a=[1, 2], b=Gaussian(1.0), c=3, shared=("c",))
    params = Net([layer], (2, 1, 1), 1).params
    assert params["0/elementwise.a"].tolist() == [1, 2] and params["0/elementwise.c"].tolist() == [3]
    drawn = params["0/elementwise.b"]
    assert drawn.shape == (2,) and drawn[0] != drawn[1]
    assert not any(param.decay for param in layer.params((2, 1, 1)).values())
    with pytest.raises(LayerError, match=r"initial a of shape \(2,\) does not fit \(3,\)"):
        Net([Elementwise("a * x", a=[1, 2])], (3, 1, 1), 1)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"b": "one"}, "b must be finite numbers"),
        ({"b": math.nan}, "b must be finite numbers"),
        ({"b": []}, "b must be finite numbers"),
        ({"b": True}, "b must be finite numbers"),
        ({"b": 1.0, "shared": 1}, "shared must be True, False or names"),
        ({"b": 1.0, "shared": [["b"]]}, "shared must be True, False or names"),
        ({"b": 1.0, "shared": "b"}, "shared must be True, False or names"),
        ({"b": 1.0, "shared": ["c"]}, r"shared must be .* got \['c'\][\s\S]*parameters are: b"),
        ({}, r"'b' is not known:\n    b \* x\n    \^\n  hint: .* b=1.0"),
        ({"b": 1.0, "c": 1.0}, "c does not occur in the expression"),
    ],
)
def test_bad_settings(settings, found):
    with pytest.raises(LayerError, match=rf"Elementwise \(tests/layers/test_elementwise.py:\d+\)\n  {found}"):
        Elementwise("b * x", **settings)


def test_without_sympy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(LayerError, match=r"SymPy, which is not installed\n  hint: pip install sympy"):
        Elementwise("x + 1.2345 * b", b=0.5)
