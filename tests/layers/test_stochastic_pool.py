"""StochasticPool by hand, against draws in plain NumPy, and by its frequencies."""

from binascii import crc32

import numba
import numpy as np
import pytest
from close import assert_close
from in_parts import PARTS, STEPS, assert_parts_draw_as_the_whole
from pooling import GEOMETRIES

from minet import Concat, LayerError
from minet.layers import StochasticPool
from minet.testing import layer_checks, run

test_conformance = pytest.mark.sweep(32)(layer_checks(StochasticPool))


def image(rows):
    """One map, one sample."""
    return np.array(rows, float)[None, :, :, None]


def uniforms(shape, seed=0, step=0, path="stochastic_pool"):
    """The float32 of each draw: Philox4x32-10 (Salmon et al. 2011, section 3.3) on NumPy integers."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    block = np.arange(-(-np.prod(shape) // 4), dtype=np.uint64)
    c = [block & low, block >> half, block * 0 + np.uint64(step % 2**32), block * 0 + np.uint64(step >> 32)]
    k0, k1 = seed, crc32(path.encode())
    for _ in range(10):
        product0, product1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (product1 >> half) ^ c[1] ^ np.uint64(k0),
            product1 & low,
            (product0 >> half) ^ c[3] ^ np.uint64(k1),
            product0 & low,
        ]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    words = np.stack(c, axis=-1).reshape(-1)[: np.prod(shape)]
    return ((words >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)).reshape(shape)


def cells(p, q, window, stride, pad, dilation, H, W):
    """(tap, h, w) of the window's positions inside the image, row by row."""
    for r, s in np.ndindex(*window):
        h, w = p * stride[0] - pad[0] + r * dilation[0], q * stride[1] - pad[1] + s * dilation[1]
        if 0 <= h < H and 0 <= w < W:
            yield r * window[1] + s, h, w


def naive(x, dy, window, stride, pad, dilation, seed, step):
    """y, dx and picks in x's own type, element by element."""
    real, (_, H, W, _) = x.dtype.type, x.shape
    u = uniforms(dy.shape, seed, step)
    y, dx = np.zeros(dy.shape, x.dtype), np.zeros(x.shape, x.dtype)
    picked = np.full(dy.shape, window[0] * window[1])
    for c, p, q, n in np.ndindex(dy.shape):
        places = list(cells(p, q, window, stride, pad, dilation, H, W))
        total = real(0)
        for _, h, w in places:
            total += max(x[c, h, w, n], real(0))
        threshold, running = real(u[c, p, q, n]) * total, real(0)
        for tap, h, w in places:
            running += max(x[c, h, w, n], real(0))
            if running > threshold and x[c, h, w, n] > 0:
                y[c, p, q, n], picked[c, p, q, n] = x[c, h, w, n], tap
                dx[c, h, w, n] += dy[c, p, q, n]
                break
    return y, dx, picked


@pytest.mark.sweep(5)
@pytest.mark.parametrize("batch", [1, 5, 36])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_picks_bit_for_bit(run, dtype, geometry, batch):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((2, 9, 8, batch)) + 0.3).astype(dtype)
    P, Q = geometry.outputs(*x.shape[1:3])
    dy, dx0 = (rng.integers(-9, 9, shape).astype(dtype) for shape in ((2, P, Q, batch), x.shape))
    layer, seed, step = geometry.make(StochasticPool), 2**32 - 5, 2**33 + 7
    y, dx, picked = naive(x, dy, *geometry[:4], seed, step)
    out = run(layer, x, dy, seed=seed, step=step, beta_dx=0.5, dx0=dx0)
    np.testing.assert_array_equal(out.state.picked, picked)
    np.testing.assert_array_equal(out.y, y)
    np.testing.assert_array_equal(out.dx, dx + dx0 / 2)


def test_frequencies_are_the_probabilities(run):
    a = np.array([[0, 1, 2], [-5, 3, 4]])
    x = np.broadcast_to(a[None, :, :, None], (1, 2, 3, 40_000))
    picked = run(StochasticPool((2, 3)), x).state.picked.ravel()
    counts, expected = np.bincount(picked, minlength=7), x.shape[3] * np.array([0, 0.1, 0.2, 0, 0.3, 0.4, 0])
    assert counts[[0, 3, 6]].sum() == 0
    drawn = expected > 0
    chi2 = ((counts - expected)[drawn] ** 2 / expected[drawn]).sum()
    assert chi2 < 16.3  # 3 degrees of freedom: exceeded once in a thousand


def test_the_mean_over_many_draws_is_the_value_in_evaluation(run):
    x = np.tile(np.array([0.5, 2, -1, 1]).reshape(1, 2, 2, 1), 50_000)
    mean, expected = (
        run(StochasticPool(2), x).y.mean(dtype=float),
        run(StochasticPool(2), x[..., :1], train=False).y.item(),
    )
    assert expected == pytest.approx(5.25 / 3.5)
    assert abs(mean - expected) < 5 * 0.6 / np.sqrt(x.shape[3])


def test_each_seed_step_and_place_draws_its_own(run):
    x = np.ones((1, 16, 16, 4))

    def picks(**which):
        return run(StochasticPool(2), x, **which).state.picked.tobytes()

    assert picks(seed=3, step=5) == picks(seed=3, step=5)
    branches = run(Concat(StochasticPool(2), StochasticPool(2)), x, seed=3, step=5).state
    drawn = {picks(seed=i, step=j) for i in (3, 4) for j in (5, 6)}
    drawn |= {branches[f"{i}/stochastic_pool.picked"].tobytes() for i in (0, 1)}
    assert len(drawn) == 6


def test_the_draw_depends_neither_on_threads_nor_on_the_type():
    x = np.random.default_rng(4).integers(0, 9, (3, 9, 11, 7)).astype(float)  # sums are exact in both types
    everything = run(StochasticPool(3, stride=1, pad=1), x)
    single = run(StochasticPool(3, stride=1, pad=1), x.astype(np.float32))
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = run(StochasticPool(3, stride=1, pad=1), x)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(alone.state.picked, everything.state.picked)
    assert (single.state.picked != everything.state.picked).mean() < 1e-3  # u * total is rounded differently


def test_evaluation_by_hand(run):
    x = image([[1, 3, -2, 0], [0, 0, -1, -4]])
    out = run(StochasticPool(2), x, image([[8, 5]]), train=False)
    np.testing.assert_array_equal(out.y, image([[2.5, 0]]))
    np.testing.assert_array_equal(out.dx, image([[-1, 7, 0, 0], [0, 0, 0, 0]]))  # 8 (2a - 2.5) / 4


@pytest.mark.sweep(3)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_evaluation_against_naive_loops(run, geometry):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 9, 8, 5))
    P, Q = geometry.outputs(*x.shape[1:3])
    dy, dx0 = rng.standard_normal((2, P, Q, 5)), rng.standard_normal(x.shape)
    y, dx = np.zeros(dy.shape), 0.5 * dx0
    for c, p, q, n in np.ndindex(dy.shape):
        a = {(h, w): x[c, h, w, n] for _, h, w in cells(p, q, *geometry[:4], 9, 8) if x[c, h, w, n] > 0}
        total = sum(a.values())
        y[c, p, q, n] = sum(v * v / total for v in a.values())
        for (h, w), v in a.items():
            dx[c, h, w, n] += dy[c, p, q, n] * (2 * v - y[c, p, q, n]) / total
    out = run(geometry.make(StochasticPool), x, dy, train=False, beta_dx=0.5, dx0=dx0)
    assert_close(out.y, y, float32=3e-5)
    assert_close(out.dx, dx, float32=3e-5)


@pytest.mark.parametrize("train", [True, False])
def test_nothing_positive_gives_nothing(run, train):
    x = np.full((2, 5, 4, 3), -1.0)
    x[0], x[1, 0] = 0, -np.inf
    out = run(StochasticPool(3, stride=2, pad=1), x, np.ones((2, 3, 2, 3)), train=train)
    np.testing.assert_array_equal(out.y, 0)
    np.testing.assert_array_equal(out.dx, 0)
    if train:
        np.testing.assert_array_equal(out.state.picked, 9)


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_padding_and_negatives_are_never_drawn(run, pad):
    rng = np.random.default_rng(6)
    x = np.abs(rng.standard_normal((1, 6, 5, 50))) + 0.1
    x[0, 2] *= -1
    out = run(StochasticPool(3, stride=1, pad=pad), x, np.ones((1, 4 + 2 * pad, 3 + 2 * pad, 50)))
    assert (out.y > 0).all()
    assert (out.dx[0, 2] == 0).all()
    assert out.dx.sum() == out.y.size  # each delta arrived inside the image


@pytest.mark.slow
@pytest.mark.parametrize("cell", [0, 254, 255, 256, 257, 299])
def test_every_cell_of_a_window_of_300_gets_its_delta(run, cell):
    x = np.full((1, 15, 20, 1), -1.0)
    x.flat[cell] = 2
    out = run(StochasticPool((15, 20)), x, image([[7]]))
    assert out.y == 2
    assert out.state.picked == cell
    np.testing.assert_array_equal(out.dx, np.where(x > 0, 7, 0))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("bad", [[np.nan], [np.inf], ["most", "most"]])
def test_a_sum_that_is_not_finite_shows(run, dtype, bad, train):
    bad = [np.finfo(dtype).max if value == "most" else value for value in bad]
    for places in [(0, 1), (4, 2), (8, 7)]:
        x = np.linspace(-1, 1, 9)
        for place, value in zip(places, bad, strict=False):
            x[place] = value
        out = run(StochasticPool(3), x.reshape(1, 3, 3, 1), image([[1]]), train=train)
        assert np.isnan(out.y)
        if train:
            assert out.state.picked == 9
            np.testing.assert_array_equal(out.dx, 0)
        else:
            np.testing.assert_array_equal(out.dx.ravel(), np.where(x > 0, np.nan, 0))


@pytest.mark.parametrize("batch", [1, 4])
def test_the_smallest_numbers_have_their_mean_too(run, place, batch):
    """Their squares underflow; a power of two scales y, and does not change the slopes."""
    x = np.repeat(np.array([1.0, 3, -5, 4]).reshape(1, 2, 2, 1), batch, 3)
    scale = float(np.finfo(place[1]).tiny) * 8
    dy = np.ones((1, 1, 1, batch))
    large, small = (run(StochasticPool(2), x * s, dy, train=False) for s in (1.0, scale))
    np.testing.assert_array_equal(large.y, 26 / 8)
    assert_close(small.dx, large.dx)
    if place[0] != "cpu":  # whose sums of squares go down the columns first, and do underflow
        assert_close(small.y / np.float32(scale), large.y)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_what_is_not_finite_stays_in_its_windows(run, batch, train):
    x = np.ones((1, 6, 6, batch))
    x[0, 2, 3, 0], x[0, 4, 0, 0] = np.nan, np.inf
    y = run(StochasticPool(2, stride=1, pad=1), x, train=train).y
    expected = np.ones((1, 7, 7, batch), bool)
    expected[0, 2:4, 3:5, 0] = expected[0, 4:6, 0:2, 0] = False
    np.testing.assert_array_equal(np.isfinite(y), expected)
    np.testing.assert_array_equal(y[expected], 1)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_negatives_count_for_nothing_whatever_they_are(run, batch, train):
    """In a window over an edge too: one position is left, and it is the value and takes the delta."""
    for lone, (h, w) in enumerate(np.ndindex(2, 2)):
        x = np.full((1, 2, 2, batch), [-np.inf, -3.0, -0.0, 0.0][lone])
        x[0, h, w] = 2
        out = run(StochasticPool(4, pad=1), x, np.full((1, 1, 1, batch), 6.0), train=train)
        np.testing.assert_array_equal(out.y, 2)
        np.testing.assert_array_equal(out.dx, np.where(x == 2, 6 if train else 6 * (2 * 2 - 2) / 2, 0))
        if train:
            np.testing.assert_array_equal(out.state.picked, 4 * (h + 1) + w + 1)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("settings", [{"window": 2}, {"window": 3, "stride": 2, "pad": 1}], ids=str)
@pytest.mark.parametrize("whole", PARTS)
def test_parts_of_a_batch_pick_what_the_whole_picks(run, whole, settings, step):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 8, 6, whole)) + 0.5
    dy = rng.standard_normal((3, 4, 3, whole))
    assert_parts_draw_as_the_whole(run, StochasticPool(**settings), x, dy, step)


@pytest.mark.parametrize("batch", [401, 404])
def test_the_running_sum_must_exceed_the_threshold(run, batch):
    """With a total of 2^24 the threshold u * total is a whole number: the first value, or one less."""
    threshold = uniforms((1, 1, 1, batch)).astype(float) * 2**24
    for more, tap in ((0, 1), (1, 0)):
        first = threshold + more
        out = run(StochasticPool((1, 2)), np.concatenate([first, 2**24 - first], axis=2))
        np.testing.assert_array_equal(out.state.picked, tap)


def test_rounding_never_leaves_a_window_without_a_pick(run, dtype):
    # The smallest positive number times u rounds to itself for u above 0.5: no running sum exceeds it.
    x = np.zeros((1, 2, 2, 200), dtype)
    x[0, 1, 0] = np.finfo(dtype).smallest_subnormal
    out = run(StochasticPool(2), x)
    assert (uniforms(out.y.shape) > 0.5).any()
    np.testing.assert_array_equal(out.state.picked, 2)
    np.testing.assert_array_equal(out.y, x[0, 1, 0, 0])


@pytest.mark.parametrize(
    ("window", "dtype"),
    [(1, "uint8"), ((2, 127), "uint8"), ((15, 17), "uint16"), ((2, 32767), "uint16"), (256, "uint32")],
)
def test_a_pick_is_as_small_as_the_window_allows(window, dtype):
    assert StochasticPool(window).state((1, 300, 300), (1, 1, 1))["picked"].dtype == dtype


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window must be"),
        ({"window": "3"}, "window must be"),
        ({"window": 3, "stride": 0}, "stride must be"),
        ({"window": 3, "pad": 3}, "must be smaller than the window"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(LayerError, match=message):
        StochasticPool(**settings)


def test_a_window_that_does_not_fit():
    assert StochasticPool(3, stride=2).configure((5, 8, 7)) == (5, 3, 3)
    with pytest.raises(LayerError, match="window 9x9 does not fit H=4 with pad 2"):
        StochasticPool(9, pad=2).configure((1, 4, 6))
