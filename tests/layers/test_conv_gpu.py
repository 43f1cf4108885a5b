"""Conv's CUDA kernels: every tile, on sizes around its own; dw's shares; TF32."""

import numpy as np
import pytest
from test_conv import oracle

from minet import Net, backends
from minet.backends import launcher
from minet.layers import Conv, conv_tiles
from minet.testing import run

ROUNDING = 3e-6  # of float32, relative to the largest element
SIZES = {  # C, K and N smaller than the tiles, larger, and not multiples of anything
    "one_sample": ((3, 5, 4, 1), 4, {"window": 3, "pad": 1}),
    "odd_samples": ((18, 4, 3, 3), 20, {"window": 3, "stride": 2, "pad": 1}),
    "many_samples": ((33, 3, 2, 33), 36, {"window": (2, 3), "pad": (0, 2), "dilation": (1, 2)}),
    "whole_pixels": ((5, 3, 4, 128), 17, {"window": 3, "stride": (1, 2), "pad": 1}),
    "no_window": ((20, 3, 3, 4), 9, {"window": 1}),
}


class Launches(list):
    """The constants of each launch; and of dw's last one, how many shares there were."""

    count = 0


@pytest.fixture
def launched(monkeypatch):
    """The constants of each launch of a kernel, with its grid, in their order."""
    seen, call = Launches(), launcher.Launcher.call

    def noting(self, path, name, constants, values, *args, **kwargs):
        seen.append((name, constants))
        seen.count = values["z1"] if name == "conv_dw" else seen.count
        return call(self, path, name, constants, values, *args, **kwargs)

    monkeypatch.setattr(launcher.Launcher, "call", noting)
    return seen


def tiles_of(launches, kernel):
    return {(c["BM"], c["BN"], c["FLAT"]) for name, c in launches if name == kernel}


def worst(size, backend):
    """The largest error of y, dx and the gradients on a backend, at beta 0 and another, against float64's."""
    shape, maps, window = SIZES[size] if isinstance(size, str) else size
    layer, draw = Conv(maps, **window), np.random.default_rng(4)
    x, b = draw.standard_normal(shape), draw.standard_normal(maps)
    w = draw.standard_normal((maps, shape[0], *layer.window.size))
    dy, y0 = draw.standard_normal((2, *layer.out_shape(shape[:3]), shape[3]))
    x, w, dy = (a.astype("float32").astype("float64") for a in (x, w, dy))
    y, dx, dw = oracle(x, dy, w, layer.window)
    y += b[:, None, None, None]
    errors = []
    for beta, firsts in ((0.0, {}), (-0.5, {"y0": y0, "dx0": x})):  # at 0 the destinations hold NaN
        where = {"backend": backend, "dtype": "float32", "beta_y": beta, "beta_dx": beta}
        out = run(layer, x, dy, params={"w": w, "b": b}, **where, **firsts)
        expected = (y + beta * y0, dx + beta * x, dw, dy.sum((1, 2, 3)))
        for got, true in zip((out.y, out.dx, out.grads.w, out.grads.b), expected, strict=True):
            errors.append(np.abs(got - true).max() / np.abs(true).max())
    assert np.isfinite(errors).all()
    return max(errors)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tile", conv_tiles.IMAGE_TILES)
def test_a_tile_of_images(tile, size, gpu_backend, launched, monkeypatch):
    monkeypatch.setattr(conv_tiles, "image_tile", lambda maps, positions: tile)
    assert worst(size, gpu_backend) < ROUNDING
    flat = {int(SIZES[size][0][0] < 16), int(SIZES[size][1] < 16)}
    assert tiles_of(launched, "conv_gather") == {(*conv_tiles.IMAGE_TILES[tile][:2], f) for f in flat}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tile", conv_tiles.WEIGHT_TILES)
def test_a_tile_of_weights(tile, size, gpu_backend, launched, monkeypatch):
    monkeypatch.setattr(conv_tiles, "weight_tile", lambda K, C, taps: tile)
    assert worst(size, gpu_backend) < ROUNDING
    expected = conv_tiles.WEIGHT_TILES[tile]
    assert tiles_of(launched, "conv_dw") == {(expected.BM, expected.BN, expected.FLAT)}


@pytest.mark.slow
@pytest.mark.parametrize("tile", ["deep", "large"])
def test_positions_of_64_bits(tile, gpu_backend, launched, monkeypatch):
    monkeypatch.setattr(launcher, "WIDE", 1)
    monkeypatch.setattr(conv_tiles, "image_tile", lambda maps, positions: tile)
    assert worst("odd_samples", gpu_backend) < ROUNDING
    assert worst("whole_pixels", gpu_backend) < ROUNDING
    gradients_are_those_of_the_cpu(SIZES["odd_samples"], False, gpu_backend)
    assert {"conv_turn", "conv_gather", "conv_dw", "conv_dw_sum"} <= {name for name, _ in launched}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("seed", range(20))
def test_any_geometry_on_a_gpu(seed, gpu_backend):
    draw = np.random.default_rng(seed)
    size, stride, dilation = draw.integers(1, 5, 2), draw.integers(1, 4, 2), draw.integers(1, 3, 2)
    pad, reach = draw.integers(0, size), dilation * (size - 1) + 1
    C, K, N = (int(draw.choice(sizes)) for sizes in ([1, 3, 17, 40], [1, 8, 33], [1, 3, 4, 33]))
    H, W = (int(n) for n in np.maximum(draw.integers(1, 7, 2), reach - 2 * pad))
    names = ("window", "stride", "pad", "dilation")
    pairs = (tuple(map(int, pair)) for pair in (size, stride, pad, dilation))
    assert worst(((C, H, W, N), K, dict(zip(names, pairs, strict=True))), gpu_backend) < ROUNDING


def test_all_pixels_are_one_row_to_a_1x1_window(gpu_backend, launched):
    """So four neighbours are copied at once, though N is 1."""
    run(Conv(4, 1), np.ones((3, 2, 6, 1)), np.ones((4, 2, 6, 1)), backend=gpu_backend, dtype="float32")
    assert {c["LANES"] for name, c in launched if name in ("conv_gather", "conv_dw")} == {4}


def test_a_first_layer_launches_no_product_for_dx(gpu_backend, launched):
    net = Net(Conv(2, 3), (3, 4, 5), 2, backend=gpu_backend)
    x = net.be.zeros((3, 4, 5, 2))
    net.graph.fprop(x, net.y, 0.0, True)
    launched.clear()
    net.graph.bprop(x, net.dy, None)
    assert [name for name, _ in launched if name.startswith("conv")] == ["conv_dw", "conv_dw_sum"]


# -- the shares of dw -------------------------------------------------------------------------------


def test_more_shares_than_there_is_room_for_take_turns(gpu_backend, launched, monkeypatch):
    monkeypatch.setattr(conv_tiles, "MULTIPROCESSORS", 1)
    monkeypatch.setattr(conv_tiles, "MOST", 64)
    monkeypatch.setattr(conv_tiles, "weight_tile", lambda K, C, taps: "64x128")
    conv_tiles.shared_out.cache_clear()
    assert worst(((5, 5, 6, 33), 7, {"window": 3, "pad": 1}), gpu_backend) < ROUNDING
    conv_tiles.shared_out.cache_clear()
    turns = [name for name, _ in launched if name.startswith("conv_dw")]
    first = turns.index("conv_dw_sum") + 1  # of two runs; the last turn of each goes with dx
    assert turns[:first] == ["conv_dw", "conv_dw_sum"] and turns.count("conv_dw") > 6
    assert turns.count("conv_dw_sum") == turns.count("conv_dw") - 2


def gradients_are_those_of_the_cpu(size, dx, backend):
    """In a net that is asked for dx, or is not."""
    shape, maps, window = size
    layer, draw = Conv(maps, **window), np.random.default_rng(4)
    out_shape = (*layer.out_shape(shape[:3]), shape[3])
    x, dy = (draw.standard_normal(one).astype("float32") for one in (shape, out_shape))
    given = {name: draw.standard_normal(param.shape) for name, param in layer.params(shape[:3]).items()}
    found = []
    for be in (backend, "cpu"):
        net = Net(layer.clone(), shape[:3], shape[3], backend=be)
        for name, value in given.items():
            net.be.copy(value.astype("float32"), net.params[f"conv.{name}"])
        net.fprop(net.be.array(x), train=True)
        net.bprop(net.be.array(dy), net.be.zeros(shape) if dx else None)
        found.append({name: net.be.get(grad) for name, grad in net.grads.items()})
    for name, expected in found[1].items():
        np.testing.assert_allclose(found[0][name], expected, rtol=0, atol=ROUNDING * abs(expected).max())


@pytest.mark.sweep(2)
@pytest.mark.parametrize("dx", [True, False])
@pytest.mark.parametrize(
    ("size", "shares"),
    [
        (((5, 9, 16, 18), 3, {"window": 1}), 41),  # more than 32 of one set: 8 threads or 4 for a sum
        (((33, 8, 17, 16), 2, {"window": (1, 3), "pad": (0, 1)}), 98),
        (((2, 24, 24, 4), 5, {"window": 3, "pad": 1}), 36),
        (((34, 16, 16, 16), 6, {"window": 1, "groups": 2}), 64),
    ],
)
def test_sums_of_many_shares(size, shares, dx, gpu_backend, launched):
    """By blocks behind those of dx, or in a launch of their own."""
    gradients_are_those_of_the_cpu(size, dx, gpu_backend)
    names = [name for name, _ in launched if name.startswith("conv")]
    assert names == ["conv_turn", "conv_gather", "conv_dw", "conv_gather" if dx else "conv_dw_sum"]
    assert launched.count == shares


def test_pieces_of_db(gpu_backend):
    """Over 4,096 positions the sum is cut; with 1/3 each, one long sum in float32 would be off by more."""
    layer, N = Conv(3, 1), 4
    dy = np.full((3, 100, 101, N), 1 / 3, "float32")
    dy[1, 57] = 7
    out = run(layer, np.ones((2, 100, 101, N)), dy, backend=gpu_backend, dtype="float32")
    np.testing.assert_allclose(out.grads.b, dy.sum((1, 2, 3), dtype="float64"), rtol=3e-7)


def test_more_taps_than_a_warp_has_lanes(gpu_backend, launched, monkeypatch):
    """Each tap's shares begin behind those of the taps before it, which the lanes of a warp count."""
    monkeypatch.setattr(conv_tiles, "weight_tile", lambda K, C, taps: "64x64")
    assert worst(((2, 7, 8, 9), 3, {"window": (6, 7), "pad": 2}), gpu_backend) < ROUNDING
    assert {c["FLAT"] for name, c in launched if name == "conv_dw"} == {0}


# -- TF32 -------------------------------------------------------------------------------------------


@pytest.mark.sweep(2)
@pytest.mark.parametrize("size", ["one_sample", "no_window"])
@pytest.mark.parametrize("tile", ["deep", "thin"])
def test_tf32_rounds_factors_to_11_bits(tile, size, gpu_backend, launched, monkeypatch):
    monkeypatch.setattr(conv_tiles, "image_tile", lambda maps, positions: tile)
    assert ROUNDING < worst(size, backends.get(gpu_backend, tf32=True)) < 1e-3
    assert {c["TF32"] for name, c in launched if name in ("conv_gather", "conv_dw")} == {1}


def test_tf32_multiplies_exactly_what_has_11_bits(gpu_backend):
    draw, be = np.random.default_rng(5), backends.get(gpu_backend, tf32=True)
    x, w = draw.integers(-1023, 1024, (20, 3, 4, 4)), draw.integers(-3, 4, (9, 20, 2, 2))
    layer, where = Conv(9, 2, bias=False), {"backend": be, "dtype": "float32"}
    out = run(layer, x, params={"w": w}, **where)
    expected, _, _ = oracle(x.astype(float), np.zeros(out.y.shape), w.astype(float), layer.window)
    np.testing.assert_array_equal(out.y, expected)
