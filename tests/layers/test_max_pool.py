"""MaxPool by hand and against naive loops."""

import numpy as np
import pytest
from pooling import GEOMETRIES

from minet import LayerError
from minet.layers import MaxPool
from minet.testing import layer_checks

test_conformance = pytest.mark.sweep(48)(layer_checks(MaxPool))


def image(rows):
    """One map, one sample."""
    return np.array(rows, float)[None, :, :, None]


def naive(x, dy, window, stride, pad, dilation=(1, 1)):
    """y, dx and argmax, position by position; of equal values the first."""
    _, H, W, _ = x.shape
    y, dx, argmax = np.empty(dy.shape), np.zeros(x.shape), np.empty(dy.shape, int)
    for c, p, q, n in np.ndindex(dy.shape):
        cells = {}
        for r, s in np.ndindex(*window):
            h, w = p * stride[0] - pad[0] + r * dilation[0], q * stride[1] - pad[1] + s * dilation[1]
            if 0 <= h < H and 0 <= w < W:
                cells[r * window[1] + s] = (h, w)
        best = max(cells, key=lambda cell: (x[c, *cells[cell], n], -cell))
        h, w = cells[best]
        y[c, p, q, n], argmax[c, p, q, n] = x[c, h, w, n], best
        dx[c, h, w, n] += dy[c, p, q, n]
    return y, dx, argmax


def test_by_hand(run):
    x = image([[1, 5, 2, 0], [3, 4, 8, 7], [6, 0, 1, 9]])
    out = run(MaxPool((2, 3), stride=1), x, image([[10, 20], [30, 40]]))
    np.testing.assert_array_equal(out.y, image([[8, 8], [8, 9]]))
    np.testing.assert_array_equal(out.state.argmax, image([[5, 4], [2, 5]]))
    np.testing.assert_array_equal(out.dx, image([[0, 0, 0, 0], [0, 0, 60, 0], [0, 0, 0, 40]]))


def test_of_equal_values_the_first_row_by_row(run):
    x = image([[0, 0, 7], [0, 7, 0], [7, 0, 0]])
    out = run(MaxPool(3), x, image([[1]]))
    np.testing.assert_array_equal(out.dx, image([[0, 0, 1], [0, 0, 0], [0, 0, 0]]))
    out = run(MaxPool(4, stride=1), np.zeros((1, 4, 4, 1)), image([[1]]))
    assert out.state.argmax == 0


def test_padding_never_wins(run):
    x = image([[-3, -2], [-5, -4]])
    out = run(MaxPool(2, pad=1), x, image([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(out.y, x)
    np.testing.assert_array_equal(out.dx, image([[1, 2], [3, 4]]))


def test_minus_infinity_has_a_place_too(run):
    x = np.full((1, 3, 3, 1), -np.inf)
    out = run(MaxPool(3, stride=2, pad=1), x, image([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(out.y, np.full((1, 2, 2, 1), -np.inf))
    np.testing.assert_array_equal(out.state.argmax[0, :, :, 0], [[4, 3], [1, 0]])
    np.testing.assert_array_equal(out.dx, image([[1, 2, 0], [3, 4, 0], [0, 0, 0]]))


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_a_tie_across_rows_and_with_infinity_goes_to_the_first(run, batch):
    inf = np.inf
    x = np.repeat(image([[1, 5, -inf, -inf], [5, 5, inf, -inf], [0, 5, inf, inf]]), batch, 3)
    dy = np.repeat(image([[1, 2, 3], [4, 5, 6]]), batch, 3)
    out = run(MaxPool(2, stride=1), x, dy)
    np.testing.assert_array_equal(out.y, np.repeat(image([[5, inf, inf]] * 2), batch, 3))
    for n in range(batch):
        np.testing.assert_array_equal(out.state.argmax[0, :, :, n], [[1, 3, 2], [0, 1, 0]])
        np.testing.assert_array_equal(out.dx[0, :, :, n], [[0, 1, 0, 0], [4, 0, 16, 0], [0, 0, 0, 0]])


def test_zeros_of_either_sign_are_equal(run):
    out = run(MaxPool(2), image([[-0.0, 0.0], [0.0, -0.0]]), image([[3]]))
    assert out.state.argmax == 0 and out.dx[0, 0, 0, 0] == 3


@pytest.mark.parametrize("corner", [(0, 0), (0, 2), (2, 0), (2, 2)])
def test_at_an_edge_the_first_position_inside_starts(run, corner):
    """A window that sees one pixel takes it, whatever it is; so does one that sees only -infinity."""
    for value in (-np.inf, -1e38, -1.0, 0.0):
        out = run(MaxPool(3, stride=4, pad=2), np.full((1, 3, 3, 1), value), image([[1, 2], [3, 4]]))
        p, q = (place // 2 for place in corner)
        assert out.y[0, p, q, 0] == np.float32(value) or out.y[0, p, q, 0] == value
        assert out.dx[0, *corner, 0] == 1 + 2 * p + q
    np.testing.assert_array_equal(out.state.argmax[0, ..., 0], [[8, 6], [2, 0]])


@pytest.mark.parametrize("at", [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)])
def test_nan_wins(run, at):
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    x[0, *at, 0] = np.nan
    out = run(MaxPool(3), x, image([[5]]))
    assert np.isnan(out.y)
    assert out.dx[0, *at, 0] == 5
    assert out.dx.sum() == 5


def test_of_several_nans_the_last_wins_also_over_infinity(run):
    out = run(MaxPool(3, pad=1), image([[np.nan, np.inf], [np.nan, np.inf]]), image([[5]]))
    assert np.isnan(out.y) and out.state.argmax == 7
    np.testing.assert_array_equal(out.dx, image([[0, 0], [5, 0]]))


@pytest.mark.sweep(4)
@pytest.mark.parametrize("batch", [1, 17, 32])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_against_naive_loops(run, geometry, batch):
    rng = np.random.default_rng(1)
    # Whole numbers: many ties, and sums without rounding.
    x = rng.integers(-3, 4, (2, 11, 9, batch)).astype(float)
    P, Q = geometry.outputs(*x.shape[1:3])
    dy = rng.integers(-9, 9, (2, P, Q, batch)).astype(float)
    dx0 = rng.integers(-9, 9, x.shape).astype(float)
    y, dx, argmax = naive(x, dy, *geometry[:4])
    out = run(geometry.make(MaxPool), x, dy, beta_dx=0.5, dx0=dx0)
    np.testing.assert_array_equal(out.y, y)
    np.testing.assert_array_equal(out.state.argmax, argmax)
    np.testing.assert_array_equal(out.dx, 0.5 * dx0 + dx)


def test_dilation_by_hand(run):
    x = image([[1, 9, 2, 0], [8, 8, 8, 8], [3, 9, 5, 4]])
    out = run(MaxPool(2, stride=1, dilation=2), x, image([[10, 20]]))
    np.testing.assert_array_equal(out.y, image([[5, 9]]))
    np.testing.assert_array_equal(out.state.argmax, image([[3, 0]]))
    np.testing.assert_array_equal(out.dx, image([[0, 20, 0, 0], [0, 0, 0, 0], [0, 0, 10, 0]]))


def test_a_last_window_may_hang_over(run):
    x = image([[1, 2, 3]])
    np.testing.assert_array_equal(run(MaxPool((1, 2), ceil=True), x).y, image([[2, 3]]))
    np.testing.assert_array_equal(run(MaxPool((1, 2)), x).y, image([[2]]))


@pytest.mark.parametrize("cell", [0, 254, 255, 256, 257, 299])
def test_every_cell_of_a_window_of_300_gets_its_delta(run, cell):
    x = np.zeros((1, 15, 20, 1))
    x.flat[cell] = 1
    out = run(MaxPool((15, 20)), x, image([[7]]))
    assert out.state.argmax == cell
    np.testing.assert_array_equal(out.dx, 7 * x)


@pytest.mark.parametrize(
    ("window", "dtype"),
    [(1, "uint8"), ((2, 127), "uint8"), ((15, 17), "uint16"), ((2, 32767), "uint16"), (256, "uint32")],
)
def test_the_argmax_is_as_small_as_the_window_allows(window, dtype):
    assert MaxPool(window).state((1, 300, 300), (1, 1, 1))["argmax"].dtype == dtype


def test_stride_is_the_window_by_default():
    assert MaxPool((3, 2)).configure((4, 7, 7)) == (4, 2, 3)
    assert MaxPool((3, 2), pad=1).configure((4, 7, 7)) == (4, 3, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window must be"),
        ({"window": 2.5}, "window must be"),
        ({"window": "3"}, "window must be"),
        ({"window": (2, 3, 4)}, "window must be"),
        ({"window": None}, "window must be"),
        ({"window": 3, "stride": 0}, "stride must be"),
        ({"window": 3, "stride": (1, -1)}, "stride must be"),
        ({"window": 3, "pad": -1}, "pad must be"),
        ({"window": (3, 5), "pad": 3}, "must be smaller than the window"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(LayerError, match=message):
        MaxPool(**settings)


def test_a_window_that_does_not_fit():
    assert MaxPool(9, pad=2).configure((1, 5, 6)) == (1, 1, 1)
    with pytest.raises(LayerError, match="window 9x9 does not fit H=4 with pad 2"):
        MaxPool(9, pad=2).configure((1, 4, 6))
