"""AvgPool by hand and against naive loops."""

import numpy as np
import pytest
from close import assert_close

from minet import LayerError
from minet.layers import AvgPool
from minet.testing import layer_checks

test_conformance = layer_checks(AvgPool)


def image(rows):
    """One map, one sample."""
    return np.array(rows, float)[None, :, :, None]


def naive(x, dy, window, stride, pad):
    """y and dx, window by window."""
    y, dx = np.empty(dy.shape), np.zeros(x.shape)
    for p, q in np.ndindex(dy.shape[1:3]):
        h, w = p * stride[0] - pad[0], q * stride[1] - pad[1]
        part = np.s_[:, max(h, 0) : h + window[0], max(w, 0) : w + window[1]]
        y[:, p, q] = x[part].mean((1, 2))
        dx[part] += dy[:, p : p + 1, q : q + 1] / np.prod(x[part].shape[1:3])
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


SETTINGS = [
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 3), (1, 1), (2, 2)),
    ((5, 4), (1, 2), (1, 3)),
    ((1, 7), (3, 1), (0, 5)),
    ((2, 1), (3, 4), (1, 0)),  # gaps: some of x is in no window
    ((18, 17), (2, 1), (6, 5)),
]


@pytest.mark.parametrize("batch", [1, 17, 32])
@pytest.mark.parametrize(("window", "stride", "pad"), SETTINGS)
def test_against_naive_loops(run, window, stride, pad, batch):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 11, 9, batch))
    P, Q = (
        (size + 2 * p - k) // s + 1 for size, k, s, p in zip(x.shape[1:3], window, stride, pad, strict=True)
    )
    dy, dx0 = rng.standard_normal((2, P, Q, batch)), rng.standard_normal(x.shape)
    y, dx = naive(x, dy, window, stride, pad)
    out = run(AvgPool(window, stride, pad), x, dy, beta_dx=0.5, dx0=dx0)
    assert_close(out.y, y)
    assert_close(out.dx, 0.5 * dx0 + dx)


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
