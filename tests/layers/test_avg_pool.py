"""AvgPool by hand and against naive loops."""

import numpy as np
import pytest
from close import assert_close
from pooling import GEOMETRIES

from minet import LayerError
from minet.layers import AvgPool
from minet.testing import layer_checks

test_conformance = pytest.mark.sweep(48)(layer_checks(AvgPool))


def image(rows):
    """One map, one sample."""
    return np.array(rows, float)[None, :, :, None]


def naive(x, dy, window, stride, pad, dilation=(1, 1), behind=None):
    """y and dx, window by window; with `behind`, so much of the padding counts below and to the right."""
    y, dx, counts = np.empty(dy.shape), np.zeros(x.shape), []
    for p, q in np.ndindex(dy.shape[1:3]):
        at = []
        for i, k in enumerate((p, q)):
            taps = k * stride[i] - pad[i] + np.arange(window[i]) * dilation[i]
            at.append(taps[(taps >= 0) & (taps < x.shape[i + 1])])
            counts.append(len(at[-1]) if behind is None else (taps < x.shape[i + 1] + behind[i]).sum())
        part, count = np.ix_(range(len(x)), *at), counts[-1] * counts[-2]
        y[:, p, q] = x[part].sum((1, 2)) / count
        dx[part] += dy[:, p : p + 1, q : q + 1] / count
    return y, dx


def test_by_hand(run):
    x = image([[1, 2, 3], [4, 5, 6]])
    out = run(AvgPool((2, 2), stride=1), x, image([[4, 8]]))
    np.testing.assert_array_equal(out.y, image([[3, 4]]))
    np.testing.assert_array_equal(out.dx, image([[1, 3, 2], [1, 3, 2]]))


def test_padding_does_not_count(run):
    x = image([[1, 2], [3, 6]])
    out = run(AvgPool(3, stride=2, pad=2), x, image([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(out.y, image([[1, 1.5], [2, 3]]))
    np.testing.assert_array_equal(out.dx, image([[1 + 2 / 2 + 3 / 2 + 4 / 4, 2 / 2 + 4 / 4], [3 / 2 + 1, 1]]))


def test_without_a_window_the_whole_image(run):
    x = np.arange(24.0).reshape(2, 3, 4, 1)
    out = run(AvgPool(), x, np.array([12, 24.0]).reshape(2, 1, 1, 1))
    np.testing.assert_array_equal(out.y.ravel(), [5.5, 17.5])
    np.testing.assert_array_equal(out.dx[0], np.ones((3, 4, 1)))
    np.testing.assert_array_equal(out.dx[1], np.full((3, 4, 1), 2.0))
    assert AvgPool().configure((5, 7, 9)) == (5, 1, 1)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("batch", [1, 17, 32])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_against_naive_loops(run, geometry, batch):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 11, 9, batch))
    P, Q = geometry.outputs(*x.shape[1:3])
    dy, dx0 = rng.standard_normal((2, P, Q, batch)), rng.standard_normal(x.shape)
    y, dx = naive(x, dy, *geometry[:4])
    out = run(geometry.make(AvgPool), x, dy, beta_dx=0.5, dx0=dx0)
    assert_close(out.y, y)
    assert_close(out.dx, 0.5 * dx0 + dx)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_padding_that_counts(run, geometry):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 11, 9, 4))
    dy = rng.standard_normal((2, *geometry.outputs(11, 9), 4))
    y, dx = naive(x, dy, *geometry[:4], behind=geometry.behind)
    out = run(geometry.make(AvgPool, count_pad=True), x, dy)
    assert_close(out.y, y)
    assert_close(out.dx, dx)


def test_padding_counts_by_hand(run):
    """What `ceil` adds behind the padding never counts: the last window has 2 of its 3 pixels, not 3."""
    out = run(AvgPool((1, 3), stride=(1, 2), pad=(0, 1), ceil=True, count_pad=True), image([[3, 6, 9, 12]]))
    np.testing.assert_array_equal(out.y, image([[3, 9, 6]]))


@pytest.mark.parametrize("out", [(1, 1), (2, 3), (5, 4), (7, 6), (9, 13)])
def test_any_number_of_outputs(run, out):
    """Windows from floor(p H / P) to ceil((p + 1) H / P), as in PyTorch: larger outputs repeat pixels."""
    rng = np.random.default_rng(4)
    x, dy, dx0 = (rng.standard_normal(shape) for shape in ((2, 7, 6, 5), (2, *out, 5), (2, 7, 6, 5)))
    y, dx = np.empty(dy.shape), 0.5 * dx0
    for p, q in np.ndindex(*out):
        rows, columns = (
            slice(int(np.floor(k * size / n)), int(np.ceil((k + 1) * size / n)))
            for k, size, n in ((p, 7, out[0]), (q, 6, out[1]))
        )
        part = x[:, rows, columns]
        y[:, p, q] = part.mean((1, 2))
        dx[:, rows, columns] += dy[:, p : p + 1, q : q + 1] / (part.shape[1] * part.shape[2])
    found = run(AvgPool(out=out), x, dy, beta_dx=0.5, dx0=dx0)
    assert_close(found.y, y)
    assert_close(found.dx, dx)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out": 3, "ceil": True}, "out=3 makes its own windows, got ceil=True"),
        ({"out": 3, "window": 2}, "out=3 makes its own windows, got window=2"),
        ({"out": 0}, "out must be one or two whole numbers of at least 1, got 0"),
        ({"ceil": True}, "needs a window, got ceil=True"),
        ({"window": 3, "count_pad": 1}, "count_pad must be True or False, got 1"),
        ({"window": 3, "ceil": None}, "ceil must be True or False, got None"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(LayerError, match=message):
        AvgPool(**settings)


def test_a_constant_map_stays_constant_up_to_the_edge(run):
    x = np.full((1, 8, 7, 3), 3.0)
    assert_close(run(AvgPool(5, stride=1, pad=4), x).y, np.full((1, 12, 11, 3), 3.0), 1e-14, 3e-7)


def test_nan_and_infinity_are_not_hidden(run):
    x = image([[np.nan, 1, 1, np.inf]])
    np.testing.assert_array_equal(run(AvgPool((1, 1)), x).y, x)
    np.testing.assert_array_equal(run(AvgPool((1, 2)), x).y, image([[np.nan, np.inf]]))


def test_what_is_not_finite_stays_in_its_windows(run):
    """Also over an edge, at a distance of less than a window, and backwards."""
    x = image([[1, 2, 3, 4], [np.nan, 5, 6, np.inf], [7, 8, 9, 8]])
    out = run(AvgPool(2, stride=2, pad=1), x, image([[1, np.nan, 3], [4, 5, -np.inf]]))
    np.testing.assert_array_equal(out.y, image([[1, 2.5, 4], [np.nan, 7, np.inf]]))
    np.testing.assert_array_equal(out.dx, image([[1, np.nan, np.nan, 3]] + 2 * [[2, 1.25, 1.25, -np.inf]]))
    assert run(AvgPool((1, 2)), image([[np.inf, -np.inf, -np.inf, -1]])).y.ravel().tolist()[1:] == [-np.inf]


def test_a_mean_of_many_pixels_keeps_float32s_digits(run):
    x = np.full((1, 200, 300, 4), 0.1)  # row by row in float32 the mean would be off by 1e-6
    out = run(AvgPool(), x)
    np.testing.assert_allclose(out.y, np.full((1, 1, 1, 4), out.y.dtype.type(0.1)), rtol=2e-7)


def test_negative_windows_and_zeros(run):
    out = run(AvgPool(2), image([[-1, -3, 0, -0.0], [-5, -7, -0.0, 0]]), image([[0, -4]]))
    np.testing.assert_array_equal(out.y, image([[-4, 0]]))
    np.testing.assert_array_equal(out.dx, image([[0, 0, -1, -1]] * 2))


def test_stride_is_the_window_by_default():
    assert AvgPool((3, 2)).configure((4, 7, 7)) == (4, 2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window must be"),
        ({"window": "3"}, "window must be"),
        ({"window": 3, "stride": 1.5}, "stride must be"),
        ({"window": 3, "pad": (1, -1)}, "pad must be"),
        ({"window": 3, "pad": 3}, "must be smaller than the window"),
        ({"stride": 2}, "a stride or pad needs a window"),
        ({"pad": 1}, "a stride or pad needs a window"),
        ({"window": None, "pad": (0, 1)}, "a stride or pad needs a window"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(LayerError, match=message):
        AvgPool(**settings)


def test_a_window_that_does_not_fit():
    with pytest.raises(LayerError, match="window 3x8 does not fit W=7"):
        AvgPool((3, 8)).configure((1, 5, 7))


def test_settings_of_nothing_are_the_usual_ones_in_any_form():
    assert AvgPool(None, pad=(0, 0), dilation=(1, 1)).configure((2, 5, 6)) == (2, 1, 1)
    assert AvgPool(3, pad=np.array([1, 1])).configure((2, 6, 6)) == (2, 2, 2)
    with pytest.raises(LayerError, match="needs a window, got pad="):
        AvgPool(None, pad=((1, 2), 0))
