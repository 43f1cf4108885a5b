"""GaussianPool by hand, at its limits, and its settings."""

import math

import numpy as np
import pytest
from close import assert_close

from minet import Concat, LayerError, Net, testing
from minet.layers.gaussian_pool import GaussianPool
from minet.testing import layer_checks

test_conformance = pytest.mark.sweep(72)(layer_checks(GaussianPool))

HALF = 1 / math.sqrt(2 * math.log(2))  # the sigma at which a pixel 1 from the mean has half the weight
BIG, SMALL = 0.816496580927726, 0.577350269189626  # the square roots of 2/3 and 1/3
X = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)


def values(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def row(normalize="sum", edge="exact", **settings):
    """A window of three on a row, with weights 1/2, 1, 1/2 before they are normalised."""
    return GaussianPool((1, 3), 1, (0, 1), sigma=HALF, normalize=normalize, edge=edge, **settings)


@pytest.mark.parametrize(
    ("normalize", "edge", "expected"),
    [
        ("sum", "exact", [(2 * 1 + 2) / 3, (1 + 2 * 2 + 3) / 4, (2 + 2 * 3) / 3]),
        ("sum", "zero", [(2 * 1 + 2) / 4, (1 + 2 * 2 + 3) / 4, (2 + 2 * 3) / 4]),
        ("l2", "exact", [BIG + 2 * SMALL, 0.5 + 2 * 0.5**0.5 + 1.5, 2 * SMALL + 3 * BIG]),
        ("l2", "zero", [0.5**0.5 + 1, 0.5 + 2 * 0.5**0.5 + 1.5, 1 + 3 * 0.5**0.5]),
        ("none", "exact", [1 + 1, 0.5 + 2 + 1.5, 1 + 3]),
        ("none", "zero", [1 + 1, 0.5 + 2 + 1.5, 1 + 3]),
    ],
)  # fmt: skip
def test_y_by_hand(run, normalize, edge, expected):
    assert_close(run(row(normalize, edge), X).y.ravel(), expected, float32=5e-7)


@pytest.mark.parametrize(
    ("normalize", "edge", "dx", "slope"),
    [
        # Weights w at distances d are 2/3, 1/3 at 0, 1: E[d] = E[d^2] = 1/3, w (d - E[d]) is -2/9, 2/9.
        ("sum", "exact", [2 / 3, 1 / 3, 0], (-2 / 9 * 1 + 2 / 9 * 2) * 2 * math.log(2)),
        ("l2", "exact", [BIG, SMALL, 0], (-BIG / 3 + SMALL * 4 / 3) * math.log(2)),
        ("none", "exact", [1, 1 / 2, 0], 2 / 2 * 2 * math.log(2)),
    ],
)
def test_bprop_by_hand(run, normalize, edge, dx, slope):
    """The delta of the first output alone; at distances 0 and 1 mean and log_sigma have the same slope."""
    got = run(row(normalize, edge), X, np.array([1.0, 0, 0]).reshape(X.shape))
    assert_close(got.dx.ravel(), dx, float32=1e-6)
    assert_close(got.grads.mean, [[[0, slope]]], float32=1e-6)
    assert_close(got.grads.log_sigma, [[[0, slope]]], float32=1e-6)


def test_zero_edges_slopes_by_hand(run):
    """The last output sees 2 and 3 at distances -1 and 0; over the whole window E[d] = 0 and E[d^2] = 1/2."""
    got = run(row(edge="zero"), X, np.array([0, 0, 1.0]).reshape(X.shape)).grads
    mean, log_sigma = 1 / 4 * -1 * 2, 1 / 4 * 1 / 2 * 2 + 1 / 2 * -1 / 2 * 3
    assert_close(got.mean[0, 0, 1], mean * 2 * math.log(2), float32=1e-6)
    assert_close(got.log_sigma[0, 0, 1], log_sigma * 2 * math.log(2), float32=1e-6)


def test_axes_and_directions(run):
    """Means are (y, x), down and right of the centre; an even window's centre is between two pixels."""
    x = np.arange(20.0).reshape(1, 4, 5, 1)
    layer = GaussianPool(3, 1, mean=(1, -1), sigma=0.3)
    np.testing.assert_allclose(run(layer, x).y[0, ..., 0], x[0, 2:, :3, 0], atol=0.05)
    layer = GaussianPool((2, 1), 1, mean=(0.5, 0), sigma=0.3)
    np.testing.assert_allclose(run(layer, x).y[0, ..., 0], x[0, 1:, :, 0], atol=0.05)


@pytest.mark.parametrize("per_channel", [True, False])
def test_kernels_equal_parallel_branches(run, per_channel):
    """One layer of three kernels is Concat of three layers of one, in y, dx and all gradients."""
    geometry = {"window": (3, 4), "stride": (2, 1), "pad": (1, 2), "per_channel": per_channel}
    sets = 2 if per_channel else 1
    mean, sigma = 0.5 * values(0, sets, 3, 2), np.exp(0.3 * values(1, sets, 3, 2))
    x, dx0 = values(2, 2, 2, 5, 6, 5).astype("f4")
    dy, y0 = values(3, 2, 6, 3, 7, 5).astype("f4")
    betas = {"beta_y": 0.5, "y0": y0, "beta_dx": -2.0, "dx0": dx0}
    together = run(GaussianPool(kernels=3, mean=mean, sigma=sigma, **geometry), x, dy, **betas)
    branches = [GaussianPool(mean=mean[:, [j]], sigma=sigma[:, [j]], **geometry) for j in range(3)]
    apart = run(Concat(*branches), x, dy, **betas)
    np.testing.assert_allclose(together.y, apart.y, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(together.dx, apart.dx, rtol=1e-5, atol=1e-5)
    for name in ("mean", "log_sigma"):
        joined = np.concatenate([apart.grads[f"{j}/gaussian_pool.{name}"] for j in range(3)], axis=1)
        np.testing.assert_allclose(together.grads[name], joined, rtol=1e-5, atol=1e-5)


def test_wide_gaussian_is_average_pooling(run):
    x = values(0, 2, 5, 6, 3)
    got = run(GaussianPool(3, 2, 1, sigma=1e6), x).y
    for p in range(3):
        for q in range(3):
            part = x[:, max(2 * p - 1, 0) : 2 * p + 2, max(2 * q - 1, 0) : 2 * q + 2]
            assert_close(got[:, p, q], part.mean((1, 2)), 1e-9)


def test_narrow_gaussian_picks_the_centre(run):
    x = values(0, 2, 5, 6, 3)
    np.testing.assert_allclose(run(GaussianPool(5, 1, 2, sigma=0.3), x).y, x, atol=0.1)
    y = run(GaussianPool(11, 1, 5, sigma=0.3), x.astype("f4")).y
    np.testing.assert_allclose(y, x, atol=0.1)


@pytest.mark.parametrize("normalize", ["sum", "l2"])
@pytest.mark.parametrize("shape", ["diagonal", "full"])
def test_far_mean(run, normalize, shape):
    """A mean out of sight picks the window's nearest pixel, where every plain exponential is 0."""
    x = values(0, 1, 4, 5, 2)
    layer = GaussianPool(3, 1, 2, mean=(-1e6, 1e6), sigma=0.3, normalize=normalize, shape=shape)
    got = run(layer, x, values(1, 1, 6, 7, 2))
    tops, rights = np.maximum(np.arange(6) - 2, 0), np.minimum(np.arange(7), 4)
    np.testing.assert_allclose(got.y, x[:, tops][:, :, rights], rtol=1e-6)
    assert all(np.isfinite(a).all() for a in (got.dx, got.grads.mean, got.grads.log_sigma))


@pytest.mark.parametrize("log_sigma", [-1.2, 300.0])
def test_extreme_widths(run, log_sigma):
    params = {"mean": np.full((1, 1, 2), 2.0), "log_sigma": np.full((1, 1, 2), log_sigma)}
    got = run(GaussianPool(9, 2, 4), values(0, 1, 9, 8, 2), values(1, 1, 5, 4, 2), params=params)
    assert all(np.isfinite(a).all() for a in (got.y, got.dx, got.grads.mean, got.grads.log_sigma))


@pytest.mark.parametrize("shape", [(1, 300, 100, 10), (1, 1, 1, 300000)])
def test_long_sums_keep_float32s_digits(run, shape):
    """The slopes of 300,000 windows of one pixel, all alike."""
    x = np.full(shape, 0.1)
    out = run(GaussianPool(1, mean=(0.5, 1.0), sigma=1.0, normalize="none"), x, np.ones(x.shape))
    each = float(out.y.dtype.type(0.1)) * math.exp(-(0.5**2 + 1) / 2) * x.size
    np.testing.assert_allclose(out.grads.mean.ravel(), [-0.5 * each, -each], rtol=3e-6)
    np.testing.assert_allclose(out.grads.log_sigma.ravel(), [0.25 * each, each], rtol=3e-6)


def test_nan_stays_in_its_windows(run):
    """A NaN reaches each output whose window contains it, and no other; backwards too."""
    x = np.ones((1, 9, 9, 1))
    x[0, 4, 4] = np.nan
    got = np.isnan(run(GaussianPool(4, 1, 1), x).y[0, ..., 0])
    expected = np.zeros((8, 8), bool)
    expected[2:6, 2:6] = True
    np.testing.assert_array_equal(got, expected)
    dy = np.ones((1, 3, 3, 1))
    dy[0, 1, 1] = np.nan
    got = np.isnan(run(GaussianPool(4, 3, 1), np.ones((1, 9, 9, 1)), dy).dx[0, ..., 0])
    expected = np.zeros((9, 9), bool)
    expected[2:6, 2:6] = True
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("learn", "names"),
    [
        (True, ("mean", "sigma")),
        (False, ()),
        ("mean", ("mean",)),
        ({"sigma"}, ("sigma",)),
        (["sigma", "mean", "mean"], ("mean", "sigma")),
        (set(), ()),
    ],
)
def test_learn(run, learn, names):
    """What is not learned is still a parameter, with lr 0 and no gradient."""
    x, dy = values(0, 2, 5, 4, 3), values(1, 2, 5, 4, 3)
    full = run(GaussianPool(3, 1, 1), x, dy)
    layer = GaussianPool(3, 1, 1, learn=learn)
    got = run(layer, x, dy)
    np.testing.assert_array_equal(got.dx, full.dx)
    for setting, name in (("mean", "mean"), ("sigma", "log_sigma")):
        assert layer.params((2, 5, 4))[name].lr == (setting in names)
        np.testing.assert_array_equal(got.grads[name], full.grads[name] * (setting in names))
        assert np.abs(full.grads[name]).min() > 1e-6


def test_shared_kernels(run):
    """The gradient of kernels that channels share is the sum of the gradients of separate ones."""
    x, dy = values(0, 3, 5, 4, 2), values(1, 6, 2, 2, 2)
    own = run(GaussianPool(3, (3, 2), 1, kernels=2), x, dy)
    shared = run(GaussianPool(3, (3, 2), 1, kernels=2, per_channel=False), x, dy)
    assert_close(shared.y, own.y, 1e-14, 1e-6)
    for name in ("mean", "log_sigma"):
        assert_close(shared.grads[name], own.grads[name].sum(0, keepdims=True))


@pytest.mark.parametrize("per_channel", [True, False])
def test_mean_and_sigma_are_the_learned_values(per_channel):
    layer = GaussianPool(3, kernels=2, mean=0.25, per_channel=per_channel)
    first = layer.sigma
    net = Net(layer, (3, 6, 6), 1)
    sets = 3 if per_channel else 1
    assert layer.mean.shape == layer.sigma.shape == (sets, 2, 2)
    np.testing.assert_allclose(layer.sigma, np.broadcast_to(first, (sets, 2, 2)), rtol=1e-6)
    net.params["gaussian_pool.mean"][...] = 0.5
    net.params["gaussian_pool.log_sigma"][0, 1] = math.log(3)
    kept = layer.mean
    np.testing.assert_array_equal(kept, np.full((sets, 2, 2), 0.5))
    np.testing.assert_allclose(layer.sigma[0, 1], 3, rtol=1e-6)
    net.params["gaussian_pool.mean"][...] = 1
    assert (kept == 0.5).all()  # a copy
    clone = layer.clone()
    assert (clone.mean == 0.25).all() and (clone.sigma == first).all()  # what a new net starts from


def test_parameters():
    params = GaussianPool(3, kernels=4).params((5, 6, 7))
    assert {name: param.shape for name, param in params.items()} == {
        "mean": (5, 4, 2),
        "log_sigma": (5, 4, 2),
    }
    assert not any(param.decay for param in params.values())
    assert params["mean"].bounds is None
    assert params["log_sigma"].bounds == (math.log(0.3), None)
    shared = GaussianPool(3, kernels=4, per_channel=False).params((5, 6, 7))
    assert {param.shape for param in shared.values()} == {(1, 4, 2)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernels": 0}, "kernels must be a whole number"),
        ({"kernels": 2.0}, "kernels must be a whole number"),
        ({"kernels": True}, "kernels must be a whole number"),
        ({"sigma": 0}, "at least 0.3 px, got 0"),
        ({"sigma": (1, 0.29)}, "at least 0.3 px, got 0.29"),
        ({"sigma": -1}, "at least 0.3"),
        ({"sigma": math.nan}, "sigma must be finite"),
        ({"mean": math.inf}, "mean must be finite"),
        ({"mean": "left"}, "mean must be numbers"),
        ({"mean": [[1], [2, 3]]}, "mean must be numbers"),
        ({"mean": (1, 2, 3)}, r"mean of shape \(3,\) does not fit kernels=1"),
        ({"mean": np.zeros((2, 2)), "kernels": 3}, r"mean of shape \(2, 2\) does not fit kernels=3"),
        ({"sigma": np.ones((1, 1, 1, 2))}, "does not fit kernels=1"),
        ({"learn": "everything"}, "learn must be"),
        ({"learn": {"mean", "log_sigma"}}, "learn must be"),
        ({"learn": None}, "learn must be"),
        ({"per_channel": "yes"}, "per_channel must be True or False"),
        ({"normalize": "max"}, "normalize must be 'sum' or 'l2' or 'none'"),
        ({"normalize": None}, "normalize must be"),
        ({"edge": "reflect"}, "edge must be 'exact' or 'zero'"),
        ({"pad": 3}, "pad"),
        ({"stride": 0}, "stride"),
        ({"window": 2.5}, "window"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(LayerError, match=message):
        GaussianPool(**{"window": 3, **settings})


def test_misfits():
    with pytest.raises(LayerError, match="window 9x9 does not fit H=4 with pad 0"):
        GaussianPool(9).configure((64, 4, 5))
    layer = GaussianPool(3, kernels=2, sigma=np.ones((4, 2, 2)))
    assert layer.configure((4, 6, 6)) == (8, 2, 2)
    with pytest.raises(LayerError, match=r"sigma of shape \(4, 2, 2\) does not fit 5 channels"):
        layer.configure((5, 6, 6))
    with pytest.raises(LayerError, match="the one set that all channels share"):
        GaussianPool(3, mean=np.zeros((4, 1, 2)), per_channel=False).configure((4, 6, 6))


def test_bands_are_of_a_type_that_numbas_cache_finds_again():
    from minet.loops.gaussian_pool_weights import Axis

    axis, w = Axis(7, 4, 3, 2, 1, 1), np.ones((3, 3, 1))
    for band in (axis.band(w, "float32"), axis.transposed(w, "float32")):
        assert type(band).__module__ == "minet.loops.gaussian_pool"


def test_values_can_be_set_from_outside(gpu_backend):
    layer = GaussianPool(5, kernels=2, learn={"mean"})
    with pytest.raises(LayerError, match="its sigma can be set once it is in a Net"):
        layer.sigma = 1.0
    net = Net(layer, (3, 6, 6), 4, backend=gpu_backend)
    x = values(0, 3, 6, 6, 4).astype("f4")
    layer.sigma, layer.mean = 0.75, np.arange(12.0).reshape(3, 2, 2) / 10
    np.testing.assert_allclose(layer.sigma, np.full((3, 2, 2), 0.75), rtol=1e-6)
    made = GaussianPool(5, kernels=2, sigma=0.75, mean=np.arange(12.0).reshape(3, 2, 2) / 10)
    expected = testing.run(made, x, backend=gpu_backend).y
    assert_close(net.be.get(net.fprop(net.be.array(x))), expected)
    with pytest.raises(LayerError, match=r"sigma of shape \(2, 2, 2\) does not fit 3 channels"):
        layer.sigma = np.ones((2, 2, 2))
    with pytest.raises(LayerError, match=r"sigma must be at least 0\.3 px, got 0\.1"):
        layer.sigma = 0.1


def test_a_readout_starts_from_the_size_of_the_map():
    layer = GaussianPool(None, kernels=2)
    assert layer.configure((3, 8, 16)) == (6, 1, 1)
    with pytest.raises(LayerError, match="its mean depends on the size of the image"):
        _ = layer.mean
    assert layer._repr_svg_() is None
    bound = layer.clone()
    Net(bound, (3, 8, 16), 1)
    np.testing.assert_allclose(
        bound.sigma, np.broadcast_to(GaussianPool((8, 16), kernels=2).sigma, (3, 2, 2)), rtol=1e-6
    )
    assert "<ellipse" in bound._repr_svg_()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": None, "stride": 2}, "a window as large as the image has no stride"),
        ({"window": None, "pad": 1}, "a window as large as the image has no stride"),
        ({"window": 3, "correlation": 0.5}, "a correlation needs shape='full'"),
        (
            {"window": 3, "shape": "full", "correlation": 1.0},
            "correlation must be between -0.95 and 0.95, got 1",
        ),
        (
            {"window": 3, "shape": "full", "correlation": [0.5, 0.5]},
            r"correlation of shape \(2,\) does not fit",
        ),
        ({"window": 3, "learn": "correlation"}, "learn must be True, False or some of mean, sigma, got"),
        ({"window": 3, "shape": "round"}, "shape must be 'diagonal' or 'full', got 'round'"),
    ],
)
def test_settings_of_the_full_shape_and_of_readouts(settings, message):
    with pytest.raises(LayerError, match=message):
        GaussianPool(**settings)


def test_too_many_weights_of_a_full_gaussian_are_refused_before_they_are_made():
    layer = GaussianPool(61, stride=1, pad=60, kernels=4, shape="full")
    with pytest.raises(
        LayerError, match=r"windows that differ, at edges, would be \d+ numbers[\s\S]*shape='diagonal'"
    ):
        layer.configure((64, 128, 128))


def test_the_peak_form_is_the_bare_exponential(run):
    x = values(1, 2, 6, 5, 3)
    none, peak = (run(GaussianPool(3, 2, 1, sigma=0.8, normalize=form), x) for form in ("none", "peak"))
    np.testing.assert_array_equal(peak.y, none.y)
    impulse = np.zeros((1, 3, 3, 1))
    impulse[0, 1, 1] = 1
    assert run(GaussianPool(3, normalize="peak"), impulse).y == 1


def test_a_fixed_grid_has_the_same_kernels_on_every_channel(run):
    grid = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    layer = GaussianPool(None, kernels=4, mean=grid, sigma=1.0, learn=False, per_channel=False)
    x = np.repeat(values(2, 1, 5, 5, 2), 3, axis=0)
    out = run(layer, x, np.ones((12, 1, 1, 2)))
    np.testing.assert_array_equal(out.y.reshape(4, 3, 2), np.repeat(out.y.reshape(4, 3, 2)[:, :1], 3, axis=1))
    assert (
        out.grads["mean"].shape == (1, 4, 2)
        and not out.grads["mean"].any()
        and not out.grads["log_sigma"].any()
    )
