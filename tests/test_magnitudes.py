"""Every layer on numbers of any size: right to 2e-5 of the largest result, or visibly not finite.

The reference is the same layer in float64 on the cpu, on numbers that float32 holds exactly.
"""

import numpy as np
import pytest

from minet import layers
from minet.core.init import Gaussian
from minet.testing import run

EXAMPLES = [
    pytest.param(make, in_shape, id=f"{make()!r}{in_shape}".replace(" ", ""))
    for cls in layers.all_layers()
    for make, in_shape in cls.examples()
]
MAGNITUDES = [1e-18, 1e-9, 1e-3, 1e3, 1e9, 1e18]
BEYOND = [1e-30, 1e-24, 1e24, 1e36]
LARGEST, SMALLEST = float(np.finfo(np.float32).max), 1e-37  # below, processors round to fewer digits, or to 0


def inputs(make, in_shape, magnitude, seed=0):
    draw = np.random.default_rng(seed)
    out_shape = (*make().configure(in_shape), 3)
    x, dy = (
        draw.uniform(0.5, 2, shape) * draw.choice([-1, 1], shape) for shape in ((*in_shape, 3), out_shape)
    )
    return [(values.astype("float32") * np.float32(magnitude)).astype("float64") for values in (x, dy)]


def results(layer, x, dy, train, **where):
    out = run(layer, x, dy, train=train, **where)
    return {"y": out.y, "dx": out.dx, **out.grads}


def assert_right(got, exact, what):
    """Assert equality to a few units of the largest element, or, beyond float32, that it shows."""
    assert got.shape == exact.shape
    finite = exact[np.isfinite(exact)]
    largest = np.abs(finite).max() if finite.size else 0.0
    for value, true in zip(got.ravel(), exact.ravel(), strict=True):
        if not np.isfinite(true) or abs(true) > LARGEST * 0.99:
            assert not np.isfinite(value), f"{what}: {value} in place of {true}"
        elif np.isfinite(value):
            assert abs(value - true) <= 2e-5 * min(largest, LARGEST) + SMALLEST, (
                f"{what}: {value}, not {true}"
            )
        else:  # a sum on the way may be too large only if the largest result almost is
            assert largest > LARGEST * 1e-3, f"{what}: {value} in place of {true}"


@pytest.mark.sweep(2)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize(("make", "in_shape"), EXAMPLES)
def test_magnitudes(make, in_shape, magnitude, train, backend):
    x, dy = inputs(make, in_shape, magnitude)
    exact = results(make(), x, dy, train, dtype="float64")
    got = results(make(), x, dy, train, dtype="float32", backend=backend)
    for name, value in got.items():
        assert_right(value, exact[name], name)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("magnitude", BEYOND)
@pytest.mark.parametrize(("make", "in_shape"), EXAMPLES)
def test_beyond_them_nothing_is_wrong_and_finite(make, in_shape, magnitude, train, backend):
    x, dy = inputs(make, in_shape, magnitude)
    dy /= max(magnitude, 1.0)
    with np.errstate(all="ignore"):
        exact = results(make(), x, dy, train, dtype="float64")
        got = results(make(), x, dy, train, dtype="float32", backend=backend)
    for name, value in got.items():
        shown = ~np.isfinite(value)
        assert_right(np.where(shown, np.inf, value), np.where(shown, np.inf, exact[name]), name)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("make", "in_shape"), EXAMPLES)
def test_what_is_not_finite_in_x_shows_in_y(make, in_shape, bad, train, backend):
    x, dy = inputs(make, in_shape, 1.0)
    x[in_shape[0] // 2, in_shape[1] // 2, in_shape[2] // 2, 1] = bad
    with np.errstate(all="ignore"):
        exact = results(make(), x, dy, train, dtype="float64")["y"]
        got = results(make(), x, dy, train, dtype="float32", backend=backend)["y"]
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(exact))


@pytest.mark.sweep(16)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("make", "in_shape"), EXAMPLES)
def test_what_is_not_finite_in_a_parameter_shows_in_y(make, in_shape, bad, backend):
    layer = make()
    names = layer.params(in_shape)
    x, _ = inputs(make, in_shape, 1.0)
    for name in names:
        far = name == "log_sigma" or getattr(layer, "normalize", "") == "none"
        if bad == np.inf and (far or isinstance(layer, layers.Elementwise)):
            continue  # infinitely wide, or far and not normalised, sigmoid(inf): finite by the formula
        out = run(make(), x, params={name: bad}, dtype="float32", backend=backend, train=False).y
        # A slope of PReLU that is not finite meets only what is below 0.
        shown = ~np.isfinite(out) if name != "a" else ~np.isfinite(out) | (out > 0)
        assert shown.all(), name


@pytest.mark.slow
def test_a_long_mean_keeps_its_digits():
    for shape in ((1, 160000), (160000, 1), (1, 1 << 21), (700, 900)):
        x = np.full((1, *shape, 1), 0.1, "float32")
        np.testing.assert_allclose(run(layers.AvgPool(), x).y, np.float32(0.1), rtol=2e-7)


def test_a_long_product_keeps_its_digits():
    for batch in (1, 3, 16):
        y = run(layers.Linear(1, init=1.0), np.full((300000, 1, 1, batch), 0.1, "float32")).y
        np.testing.assert_allclose(y, 300000 * float(np.float32(0.1)), rtol=5e-6)


@pytest.mark.slow
def test_long_sums_of_gradients_keep_their_digits(backend):
    x = np.full((1, 512, 512, 2), -0.1, "float32")
    grads = run(layers.PReLU(), x, np.ones_like(x), backend=backend).grads
    np.testing.assert_allclose(grads.a, x.size * float(np.float32(-0.1)), rtol=5e-6)
    bias = run(layers.Conv(1, 1, init=Gaussian(0.0)), x, np.full_like(x, 0.1), backend=backend).grads.b
    np.testing.assert_allclose(bias, x.size * float(np.float32(0.1)), rtol=5e-6)
