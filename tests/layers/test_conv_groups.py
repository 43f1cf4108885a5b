"""Conv with groups, depthwise included: against values worked out by hand, and PyTorch in float64."""

import numpy as np
import pytest
from test_conv import compare_with_torch, in_torch

from minet import LayerError, Net
from minet.backends import launcher
from minet.layers import Conv
from minet.loops.conv import conv_depthwise
from minet.loops.conv import gemm as products
from minet.testing import run

ROUNDING = 3e-6  # of float32, relative to the largest element


def test_two_filters_for_each_map_by_hand(run):
    x = np.array([[1.0, 2, 3], [4, 5, 6]]).reshape(2, 1, 3, 1)
    w = np.array([[1.0, 10], [2, 0], [0, 1], [1, 1]]).reshape(4, 1, 1, 2)
    dy = np.array([[1.0, 10], [1, 1], [2, 0], [0, 3]]).reshape(4, 1, 2, 1)
    out = run(Conv(4, (1, 2), groups=2), x, dy, params={"w": w, "b": [0, 0, 0, 100]})
    np.testing.assert_array_equal(out.y[:, 0, :, 0], [[21, 32], [2, 4], [5, 6], [109, 111]])
    # Maps 0 and 1 of y have seen map 0 of x: 1*1 + 2*1 = 3, then 10*1 + 0*1 + 1*10 + 2*1 = 22, and 10*10.
    np.testing.assert_array_equal(out.dx[:, 0, :, 0], [[3, 22, 100], [0, 5, 3]])
    np.testing.assert_array_equal(out.grads.w[:, 0, 0], [[21, 32], [3, 5], [8, 10], [15, 18]])
    np.testing.assert_array_equal(out.grads.b, [11, 2, 2, 3])


def test_a_group_sees_only_its_own_maps_by_hand(run):
    x = np.array([1.0, 2, 3, 4]).reshape(4, 1, 1, 1)
    w = np.array([[1.0, 10], [2, 0], [5, 1]]).reshape(3, 2, 1, 1)
    out = run(Conv(2, 1, groups=2, bias=False), x, np.ones((2, 1, 1, 1)), params={"w": w[[0, 2]]})
    np.testing.assert_array_equal(out.y.ravel(), [21, 19])
    np.testing.assert_array_equal(out.dx.ravel(), [1, 10, 5, 1])
    np.testing.assert_array_equal(out.grads.w.reshape(2, 2), [[1, 2], [3, 4]])


SETTINGS = {
    "depthwise": (Conv(6, 3, pad=1, groups=6), (6, 5, 7, 5)),
    "depthwise_5x5": (Conv(3, 5, pad=2, groups=3), (3, 4, 7, 64)),
    "three_filters_each": (Conv(9, (2, 3), stride=(1, 2), groups=3), (3, 5, 7, 4)),
    "strides_and_dilation": (Conv(4, 3, (3, 2), ((2, 0), (1, 3)), (2, 3), groups=4), (4, 9, 8, 17)),
    "stride_beyond_the_window": (Conv(3, 2, stride=(3, 4), groups=3), (3, 8, 9, 3)),
    "wide_window": (Conv(2, (1, 11), pad=(0, 5), groups=2), (2, 2, 12, 2)),
    "many_taps": (Conv(2, 9, pad="same", groups=2, bias=False), (2, 10, 11, 4)),
    "one_sample": (Conv(4, 3, pad=1, groups=4), (4, 6, 37, 1)),
    "only_padding": (Conv(2, 2, pad=((4, 0), (0, 5)), groups=2), (2, 2, 3, 2)),
    "depthwise_1x1": (Conv(6, 1, groups=3), (3, 4, 5, 3)),
    "groups_of_few": (Conv(6, 3, pad=1, groups=3), (12, 5, 6, 4)),
    "groups_of_many": (Conv(18, 3, pad=1, groups=2), (22, 4, 5, 16)),
    "groups_of_many_1x1": (Conv(24, 1, groups=2), (4, 3, 4, 8)),
    "groups_of_many_strided": (Conv(20, (3, 2), 2, (1, 0), groups=2), (68, 5, 6, 3)),
    "groups_in_pairs": (Conv(64, 3, pad=1, groups=2), (64, 4, 6, 16)),  # by Winograd's algorithm
}


@pytest.mark.sweep(5)
@pytest.mark.parametrize("beta", [0.0, -0.5])
@pytest.mark.parametrize("name", SETTINGS)
def test_against_torch(name, beta, backend):
    compare_with_torch(*SETTINGS[name], backend, beta)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("seed", range(40))
def test_any_geometry(seed, backend):
    draw = np.random.default_rng(seed)
    size, stride, dilation = draw.integers(1, 6, 2), draw.integers(1, 4, 2), draw.integers(1, 4, 2)
    pad, reach = draw.integers(0, 4, (2, 2)), dilation * (size - 1) + 1
    H, W = (int(n) for n in np.maximum(draw.integers(1, 12, 2), reach - pad.sum(1)))
    groups, C, K = (int(draw.choice(sizes)) for sizes in ([2, 3, 5], [1, 1, 3, 9], [1, 2, 4, 10]))
    pads = tuple(tuple(map(int, sides)) for sides in pad)
    pairs = [tuple(map(int, pair)) for pair in (size, stride, dilation)]
    layer = Conv(K * groups, *pairs[:2], pads, pairs[2], groups, bool(seed % 2))
    compare_with_torch(layer, (C * groups, H, W, int(draw.choice([1, 3, 4, 16, 70]))), backend, seed=seed)


def test_what_is_not_finite_stays_in_its_windows_and_map(run):
    """Padding is no number to multiply with, whether x, dy or w is infinite."""
    x, dy, w = np.ones((3, 5, 6, 4)), np.ones((3, 5, 6, 4)), np.ones((3, 1, 3, 3))
    x[1, 0, 2, 3], dy[2, 4, 5, 0], w[0, 0, 0, 0] = np.nan, np.inf, np.inf
    out = run(Conv(3, 3, pad=1, groups=3), x, dy, params={"w": w})
    y, dx, dw = np.ones(dy.shape, bool), np.ones(x.shape, bool), np.ones(w.shape, bool)
    y[1, :2, 1:4, 3] = y[0, 1:, 1:] = False  # tap (0, 0) of the first row and column is outside
    dx[2, 3:, 4:, 0] = dx[0, :4, :5] = False
    dw[2, 0, :2, :2] = dw[1, 0, :2] = False
    for got, finite in ((out.y, y), (out.dx, dx), (out.grads.w, dw)):
        np.testing.assert_array_equal(np.isfinite(got), finite)


def test_long_sums_keep_float32s_digits(run):
    x = np.full((2, 300, 100, 10), 0.1)
    out = run(Conv(2, 1, groups=2, init=1.0), x, np.ones(x.shape))
    np.testing.assert_allclose(out.grads.w.ravel(), float(out.y.dtype.type(0.1)) * x[0].size, rtol=2e-5)


@pytest.mark.slow
def test_a_few_maps_are_summed_in_shares(monkeypatch):
    """Their number depends on the sizes alone; dw does not depend on it but in its last bits."""
    draw = np.random.default_rng(8)
    x, dy = draw.standard_normal((2, 2, 40, 6, 3))
    w, geometry, sums = draw.standard_normal((2, 1, 3, 3)), ((3, 3), (1, 1), (1, 1), (1, 1)), []
    for tasks in (1, 32, 1000):
        monkeypatch.setattr(conv_depthwise, "TASKS", tasks)
        dw, db = np.zeros(w.shape), np.zeros(2)
        conv_depthwise.conv_back(x, w, dy, None, dw, db, geometry, 2, 0.0)
        sums.append([*dw.ravel(), *db])
    np.testing.assert_allclose(db, dy.sum((1, 2, 3)), rtol=1e-12)
    for other in sums[1:]:
        np.testing.assert_allclose(other, sums[0], rtol=1e-12, atol=1e-12)


def test_groups_of_few_maps_do_without_products(monkeypatch):
    monkeypatch.setattr(products, "multiply_panels", None)
    monkeypatch.setattr("minet.loops.conv.conv.multiply_panels", None)
    x = np.ones((16, 3, 3, 2))
    for layer in (Conv(16, 3, groups=16), Conv(32, 3, groups=16), Conv(16, 3, groups=2)):
        assert (run(layer, x, params={"w": np.ones((layer.maps, 16 // layer.groups, 3, 3))}).y > 0).all()
    with pytest.raises(LayerError, match="'NoneType' object is not callable"):
        run(Conv(18, 3, groups=2), x)


def test_parameters():
    assert Conv(8, (3, 2), groups=4).params((12, 9, 9))["w"].shape == (8, 3, 3, 2)
    net = Net([Conv(512, 5, groups=64)], (128, 5, 5), 1)
    assert net.params["0/conv.w"].std() == pytest.approx((2 / (2 * 25)) ** 0.5, rel=0.02)  # He


@pytest.mark.parametrize(
    ("maps", "channels", "hint"), [(6, 5, "groups=1"), (5, 6, "groups=1"), (6, 9, "groups=3")]
)
def test_groups_that_do_not_divide_the_maps(maps, channels, hint):
    message = f"groups=2 must divide the input's maps, C={channels}, and maps={maps}"
    with pytest.raises(LayerError, match=f"(?s){message}.*use {hint}"):
        Net([Conv(maps, 3, groups=2)], (channels, 5, 5), 1)


# -- on a GPU -----------------------------------------------------------------------------------------


@pytest.fixture
def launched(monkeypatch):
    """The name, constants and grid of each launch of a kernel, in their order."""
    seen, call = [], launcher.Launcher.call

    def noting(self, path, name, constants, values, size=None, rows=1, grid=None, *args, **kwargs):
        seen.append((name, constants, grid))
        return call(self, path, name, constants, values, size, rows, grid, *args, **kwargs)

    monkeypatch.setattr(launcher.Launcher, "call", noting)
    return seen


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("depthwise", "depthwise_fprop depthwise_dx depthwise_dw"),
        ("groups_of_few", "depthwise_fprop depthwise_dx depthwise_dw"),
        ("groups_of_many", "turn gather dw gather"),
    ],
)
def test_which_kernels_groups_take(name, kernels, gpu_backend, launched):
    layer, shape = SETTINGS[name]
    dy = np.ones((*layer.out_shape(shape[:3]), shape[3]))
    run(layer, np.ones(shape), dy, backend=gpu_backend, dtype="float32")
    ours = [launch for launch in launched if launch[0].startswith("conv")]
    assert [name for name, _, _ in ours] == [f"conv_{kernel}" for kernel in kernels.split()]
    for name, constants, grid in ours:
        if name == "conv_gather":
            assert constants["GROUPED"] == 1 and grid[1] == layer.groups
    launched.clear()
    run(Conv(2, 3), np.ones((3, 4, 4, 1)), np.ones((2, 2, 2, 1)), backend=gpu_backend, dtype="float32")
    assert not any("GROUPED" in constants for _, constants, _ in launched)


@pytest.mark.parametrize("wide", [False, True])
def test_shares_of_many_pixels_on_a_gpu(wide, gpu_backend, monkeypatch):
    """More pixels than a share has, in blocks with more positions than threads."""
    if wide:
        monkeypatch.setattr(launcher, "WIDE", 1)
    monkeypatch.setattr("minet.layers.conv_gpu.FILLING", 1)
    layer, draw = Conv(3, 3, pad=1, groups=3, bias=False), np.random.default_rng(9)
    x, w = draw.standard_normal((3, 9, 23, 20)), draw.standard_normal((3, 1, 3, 3))
    dy = draw.standard_normal(x.shape)
    out = run(layer, x, dy, params={"w": w}, backend=gpu_backend, dtype="float32")
    expected = in_torch(x, w, np.zeros(3), dy, layer.window, 3)[:3]
    for got, true in zip((out.y, out.dx, out.grads.w), expected, strict=True):
        assert np.abs(got - true).max() < ROUNDING * np.abs(true).max()


@pytest.mark.sweep(1)
@pytest.mark.parametrize("tile", ["flat", "64x64"])
def test_shares_of_grouped_products_take_turns(tile, gpu_backend, monkeypatch):
    monkeypatch.setattr("minet.layers.conv_tiles.MULTIPROCESSORS", 0)
    monkeypatch.setattr("minet.layers.conv_tiles.weight_tile", lambda K, C, taps: tile)
    compare_with_torch(Conv(20, 3, pad=1, groups=2), (10, 6, 7, 33), gpu_backend)
