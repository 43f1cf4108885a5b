"""Winograd's algorithm against the direct convolution, and when it is chosen."""

import numba
import numpy as np
import pytest

from minet.layers import Conv
from minet.loops.conv import winograd, winograd_dw
from minet.testing import run

pytestmark = pytest.mark.slow  # its loops and kernels take half a minute to compile

PRODUCTS = {"multiply_pairs": winograd, "multiply_pair_dots": winograd_dw}
LANES = {"float32": 16, "float64": 8}


@pytest.fixture
def pairs(monkeypatch):
    """A switch that turns the algorithm on or off for every shape it can compute, and counts its calls."""
    calls = []

    def counted(name, module):
        multiply = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: calls.append(name) or multiply(*args))

    for name, module in PRODUCTS.items():
        counted(name, module)

    def turn(on):
        monkeypatch.setattr(winograd, "pays_in_pairs", lambda w, y, geometry: on)
        monkeypatch.setattr(winograd, "alike", lambda w: np.ones(len(w), bool))
        return calls

    return turn


def both(pairs, layer, x, dy, **settings):
    """Return the direct results, and those computed in pairs."""
    results = []
    for on in (False, True):
        before = len(pairs(on))
        results.append(run(layer, x, dy, **settings))
        assert pairs(on)[before:] == on * ["multiply_pairs", "multiply_pairs", "multiply_pair_dots"]
    return results


@pytest.mark.parametrize("window", [3, 5])
def test_by_hand(window, pairs):
    """On a row of whole numbers the transforms are exact or nearly so."""
    taps = np.arange(1.0, window + 1)
    x = np.repeat(np.array([3.0, -1, 4, 1, -5, 9, 2]).reshape(1, 1, 7, 1), 8, 3)
    pairs(on=True)
    dy = np.repeat(np.array([2.0, 1, -1, 0, 3])[: 8 - window].reshape(1, 1, -1, 1), 8, 3)
    out = run(Conv(1, (1, window)), x, dy, params={"w": taps.reshape(1, 1, 1, -1), "b": [0.5]})
    expected = {3: [13.5, 10.5, -8.5, 18.5, 19.5], 5: [-7.5, 35.5, 37.5]}[window]  # 3*1 - 1*2 + 4*3 + 0.5 ...
    np.testing.assert_allclose(
        out.y[0, 0], np.repeat(np.array(expected)[:, None], 8, 1), rtol=1e-14, atol=1e-13
    )
    expected = {3: [-14, 28, 20], 5: [1, 1, 14, -12, -3]}[window]  # 3*2 - 1*1 - 4*1 + 1*0 - 5*3, ...; 8 alike
    np.testing.assert_allclose(out.grads["w"].reshape(-1), 8 * np.array(expected), rtol=1e-14, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(24))
def test_it_is_the_convolution(seed, dtype, pairs):
    draw = np.random.default_rng(seed)
    S, C, K = (int(draw.choice(sizes)) for sizes in ([3, 5], [1, 3, 40, 70], [1, 8, 33, 140]))
    R, stride, dilation = draw.integers(1, 5), draw.integers(1, 3), draw.integers(1, 3)
    pad, N = draw.integers(0, 3, 2), LANES[dtype] * int(draw.choice([1, 2, 3, 17]))
    H = int(max(draw.integers(1, 8), dilation * (R - 1) + 1))
    W = int(max(draw.integers(1, 13), S))
    layer = Conv(K, (int(R), S), (int(stride), 1), tuple(map(int, pad)), (int(dilation), 1))
    x = draw.standard_normal((C, H, W, N))
    dy = draw.standard_normal((*layer.out_shape((C, H, W)), N))
    params = {"w": draw.standard_normal((K, C, R, S)), "b": draw.standard_normal(K)}
    firsts = {"y0": dy, "dx0": x, "beta_y": 0.5, "beta_dx": -1.0} if seed % 2 else {}
    direct, paired = both(pairs, layer, x, dy, params=params, dtype=dtype, **firsts)
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    for got, expected in ((paired.y, direct.y), (paired.dx, direct.dx), (paired.grads.w, direct.grads.w)):
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_stays_in_its_windows(window, value, pairs):
    draw = np.random.default_rng(0)
    x, dy = draw.standard_normal((2, 4, 12, 8)), draw.standard_normal((3, 4, 12, 8))
    x[1, 2, 6, 3] = dy[2, 1, 5, 4] = value
    direct, paired = both(pairs, Conv(3, window, pad=window // 2), x, dy)
    grads = paired.grads.w, direct.grads.w
    for got, expected in ((paired.y, direct.y), (paired.dx, direct.dx), grads):
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
    np.testing.assert_allclose(*grads, rtol=1e-12)


def test_the_number_of_threads_changes_no_bit(pairs):
    pairs(on=True)
    draw = np.random.default_rng(0)
    x, dy = draw.standard_normal((50, 9, 8, 32)), draw.standard_normal((140, 9, 8, 32))
    results, most = [], numba.get_num_threads()
    try:
        for threads in {1, most}:
            numba.set_num_threads(threads)
            results.append(run(Conv(140, 3, pad=1), x, dy, dtype="float32"))
    finally:
        numba.set_num_threads(most)
    assert results[0].y.tobytes() == results[-1].y.tobytes()
    assert results[0].dx.tobytes() == results[-1].dx.tobytes()
    assert results[0].grads.w.tobytes() == results[-1].grads.w.tobytes()


@pytest.mark.parametrize(
    ("layer", "shape", "chosen"),
    [
        (Conv(32, 3, pad=1), (48, 4, 6, 16), True),
        (Conv(32, 5, pad=2), (32, 5, 6, 32), True),
        (Conv(32, (3, 5), (2, 1), (1, 2)), (48, 5, 6, 16), True),
        (Conv(32, 3, pad=1), (16, 4, 6, 16), False),  # too few channels
        (Conv(8, 3, pad=1), (48, 4, 6, 16), False),  # too few maps
        (Conv(32, 3, pad=1), (48, 4, 6, 17), False),  # not whole vectors
        (Conv(32, 3, pad=1), (48, 4, 3, 16), False),  # too few columns
        (Conv(32, 3, 2, 1), (48, 4, 9, 16), False),
        (Conv(32, 3, 1, 2, dilation=2), (48, 4, 9, 16), False),
        (Conv(32, 7, pad=3), (48, 4, 9, 16), False),
    ],
    ids=str,
)
def test_when_it_is_chosen(layer, shape, chosen, monkeypatch):
    calls = []
    for name, module in PRODUCTS.items():
        original = getattr(module, name)
        recorded = lambda *args, name=name, original=original: calls.append(name) or original(*args)  # noqa: E731
        monkeypatch.setattr(module, name, recorded)
    run(layer, np.zeros(shape), np.zeros((*layer.out_shape(shape[:3]), shape[3])), dtype="float32")
    assert set(calls) == set(chosen * ["multiply_pairs", "multiply_pair_dots"])


def error(layer, x, w):
    """The largest error of y next to sums in float64, relative to the mean of |y| where x is not 0."""
    exact = run(layer, x.astype("float64"), params={"w": w}).y
    got = run(layer, x, params={"w": w}).y
    return np.abs(got - exact)[:, :, ::2].max() / np.abs(exact[:, :, ::2]).mean()


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("ratio", [1, 1e2, 1e4])
def test_a_heavy_tap_takes_no_digits_from_the_others(window, ratio):
    """Columns of zeros under the heavy tap: what is left are products of the light ones."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((64, 8, 12, 32)).astype("float32")
    x[:, :, ::2] = 0
    w = draw.standard_normal((32, 64, window, window)).astype("float32")
    w[..., 0] *= ratio
    assert error(Conv(32, window), x, w) < 1e-5


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("heavy", ["one map", "one channel", "all"])
def test_a_heavy_tap_takes_no_digits_from_the_others_in_dw(window, heavy):
    """Where dy is 0 in odd columns, even and odd columns of x meet different taps."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((64, 8, 12, 32)).astype("float32")
    dy = draw.standard_normal((40, 9 - window, 13 - window, 32)).astype("float32")
    x[slice(1) if heavy == "one channel" else slice(None), :, ::2] *= 1e4
    dy[slice(1) if heavy == "one map" else slice(None), :, 1::2] = 0
    got, exact = (run(Conv(40, window), x.astype(t), dy.astype(t)).grads.w for t in ("float32", "float64"))
    light = exact[:1, :, :, 1::2] if heavy == "one map" else exact[:, :1, :, 1::2]
    there = got[:1, :, :, 1::2] if heavy == "one map" else got[:, :1, :, 1::2]
    assert np.abs(there - light).max() < 1e-5 * np.abs(light).mean()
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("window", [3, 5])
def test_no_sum_overflows_on_the_way_to_a_finite_result(window, beta):
    x = np.full((64, window, 8, 32), 2e38, "float32")
    w, y0 = np.full((32, 64, window, window), 1 / (64 * window**2)), np.full((32, 1, 9 - window, 32), 1e38)
    out = run(Conv(32, window), x, params={"w": w}, beta_y=beta, y0=y0)
    np.testing.assert_allclose(out.y, 2e38 + beta * 1e38, rtol=1e-5)


@pytest.mark.parametrize("channels", [512, 4096])
def test_a_sum_over_many_taps_keeps_its_digits(channels):
    y = run(Conv(32, 3, init=1.0), np.full((channels, 3, 3, 8), 0.1, "float32")).y
    np.testing.assert_allclose(y, channels * 9 * float(np.float32(0.1)), rtol=5e-6)
