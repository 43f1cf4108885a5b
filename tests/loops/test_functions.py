"""The functions that LLVM makes SIMD code of, against float64: all sizes, both signs, infinities and NaN."""

import numpy as np
import pytest
from scipy import special

from minet.loops import kernel
from minet.loops.simd import functions

EXACT = {
    "erf": special.erf,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(x, 0),
    "tanh": np.tanh,
}
SMALLEST = np.finfo(np.float32).smallest_normal
EDGES = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 0.625, 88.72, 88.73, -87.4, -103.9, -104.1]


def numbers():
    draw = np.random.default_rng(0)
    sizes = np.exp(draw.uniform(-100, 88, 20000)) * draw.choice([-1, 1], 20000)
    near = draw.uniform(-1, 1, 20000), draw.uniform(-110, 110, 20000), EDGES
    return np.concatenate([sizes, *near]).astype(np.float32)


def applied(name):
    space = {}
    exec(
        f"from minet.loops.simd.functions import {name}\n"
        "def along(x, y):\n    for i in range(x.size):\n        y[i] = " + name + "(x[i])\n",
        space,
    )
    return kernel(cache=False)(space["along"])


@pytest.mark.parametrize("name", EXACT)
def test_right_to_the_last_places(name):
    x, along = numbers(), applied(name)
    y = np.empty_like(x)
    along(x, y)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    np.testing.assert_array_equal(y[~np.isfinite(rounded)], rounded[~np.isfinite(rounded)])
    there = np.isfinite(rounded)
    places = np.maximum(np.spacing(np.abs(rounded[there])), np.spacing(SMALLEST)).astype(np.float64)
    off = np.abs(y[there] - exact[there])
    small = np.abs(rounded[there]) < SMALLEST  # sigmoid gives 0 there: its exponential overflows
    assert (off[~small] / places[~small]).max() <= 3
    assert (off[small] <= SMALLEST).all()


@pytest.mark.parametrize("name", EXACT)
def test_float64_is_the_c_librarys(name):
    x = np.array([-3, -0.5, 0.0, 1e-9, 0.7, 20, np.nan], np.float64)
    y = np.empty_like(x)
    applied(name)(x, y)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, EXACT[name](x), rtol=4e-16)


@pytest.mark.parametrize("name", EXACT)
def test_llvm_makes_simd_code_of_the_loop(name):
    along = applied(name)
    along(np.ones(4, np.float32), np.ones(4, np.float32))
    (code,) = along.inspect_llvm().values()
    assert "fma.v" in code or "<4 x float>" in code or "x float>" in code


def test_every_function_is_tested():
    own = {
        name
        for name, value in vars(functions).items()
        if getattr(value, "__module__", "") == functions.__name__ and callable(value) and value.__doc__
    }
    assert own - {"in_single"} == set(EXACT) | {"two_to", "exponent", "mantissa"}
