"""The page of a run: where ellipses and dots are, what they are computed from, and that it is well-formed."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from minet import Concat, Net, Sequential
from minet.core.window import Window
from minet.layers import Conv, GaussianPool, MaxPool, ReLU, StochasticPool
from minet.train import kernel_log
from minet.view import kernels, pools
from minet.view.page import page
from minet.view.picks import Picks, chances, picks, positions

RNG = np.random.default_rng(0)


def parsed(html):
    """The root of a section in a page, without its namespaces."""
    root = ElementTree.fromstring(page("<run>", {"a&b": "<c>"}, [html], ["1 < 2"]))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


# -- picks ------------------------------------------------------------------------------------------


def test_positions_by_hand():
    taps = np.array([[0, 3], [4, 1]])  # the second row's first window picked none
    assert positions(Window((2, 2), (2, 2), (0, 0)), taps).tolist() == [[0, 0], [1, 3], [2, 3]]
    spread = Window((2, 2), (3, 1), (1, 0), (2, 3))
    assert positions(spread, taps).tolist() == [[-1, 0], [1, 4], [2, 4]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaxPool(2),
        lambda: MaxPool(3, stride=2, pad=1),
        lambda: MaxPool((3, 2), stride=(1, 3), pad=((1, 2), (0, 1)), dilation=(2, 3), ceil=True),
    ],
)
def test_a_max_pool_picks_where_its_outputs_come_from(make):
    layer, images = make(), RNG.normal(size=(2, 3, 7, 8)).astype(np.float32)
    net = Net([layer], (3, 7, 8), 5)
    (found,) = picks(net, images)
    y = net.fprop(images.transpose(1, 2, 3, 0))
    assert found.call == repr(layer) and found.chances is None
    np.testing.assert_array_equal(found.x, images.transpose(1, 2, 3, 0))
    for c, n in np.ndindex(3, 2):
        places = positions(found.window, found.taps[0][c, :, :, n])
        assert [images[n, c, h, w] for h, w in places] == y[c, :, :, n].ravel().tolist()


def test_a_stochastic_pool_draws_from_what_it_saw_and_the_net_stays_as_it_was():
    graph = Sequential(Conv(4, 3, pad=1), ReLU(), Concat(StochasticPool(2), [MaxPool(2)]), StochasticPool(1))
    net, images = Net(graph, (1, 8, 8), 2, seed=3), RNG.normal(size=(3, 1, 8, 8)).astype(np.float32)
    net.clock.step = 9
    found = picks(net, images)
    assert [one.path for one in found] == ["2/0", "2/1/0", "3"]
    assert [len(one.taps) for one in found] == [3, 1, 3]
    assert net.clock.step == 9 and not any("fprop" in vars(layer) for layer in net.graph.walk())
    drawn, largest = found[0], found[1]
    np.testing.assert_array_equal(drawn.x, largest.x)
    assert not np.array_equal(drawn.taps[0], drawn.taps[1])
    for taps in drawn.taps:
        for c, n in np.ndindex(4, 3):
            assert all(drawn.x[c, h, w, n] > 0 for h, w in positions(drawn.window, taps[c, :, :, n]))
    same = picks(Net(graph.clone(), (1, 8, 8), 7, seed=3), images)[0]
    assert all(np.array_equal(a, b) for a, b in zip(drawn.taps, same.taps, strict=True))


def test_chances_by_hand():
    x = np.array([[1, 3, 0, -1], [0, 0, -2, 0]], np.float32).reshape(1, 2, 4, 1)
    expected = [[0.25, 0.75, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(chances(Window((2, 2), (2, 2), (0, 0)), x)[0, :, :, 0], expected)
    overlapping = chances(Window((1, 2), (1, 1), (0, 1)), x)[0, 0, :, 0]  # windows at -1, 0, 1, 2 and 3
    np.testing.assert_allclose(overlapping, [1 + 1 / 4, 3 / 4 + 1, 0, 0])


def test_of_infinite_maps_chances_are_finite():
    x = np.array([np.inf, np.nan, 1, 1], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(chances(Window((2, 2), (2, 2), (0, 0)), x).ravel(), [0, 0, 0.5, 0.5])


def test_how_often_the_largest_value_is_drawn():
    x = np.array([[1, 3, 0, 0], [0, 2, 0, 0]], np.float32).reshape(1, 2, 4, 1)
    taps = [np.array([tap, 4]).reshape(1, 1, 2, 1) for tap in (1, 0, 3, 1)]
    layer = Picks("0", "", Window((2, 2), (2, 2), (0, 0)), x, taps, x)
    assert pools.likeliest(layer) == 0.5


# -- pools on the page ------------------------------------------------------------------------------


def test_dots_are_where_the_layer_picked():
    x = np.zeros((1, 4, 4, 1), np.float32)
    for h, w in ((0, 1), (1, 2), (3, 0), (2, 3)):
        x[0, h, w] = 1
    found = picks(Net([MaxPool(2)], (1, 4, 4), 1), x.transpose(3, 0, 1, 2))
    root = parsed(pools.section(found, x.transpose(3, 0, 1, 2), ["label 1"], "digits"))
    (dots,) = [path.get("d") for path in root.iter("path") if path.get("class").startswith("dot")]
    assert dots == "M1.5 0.5h0M2.5 1.5h0M3.5 2.5h0M0.5 3.5h0"
    (lines,) = [path.get("d") for path in root.iter("path") if path.get("class") == "apart"]
    assert lines == "M0 2H4M2 0V4"
    assert [caption.text for caption in root.iter("figcaption")] == ["label 1", "channel 0"]


def test_of_a_large_map_the_middle_is_shown():
    x = np.zeros((1, 1, 40, 64), np.float32)
    found = picks(Net([MaxPool(2)], (1, 40, 64), 1), x)  # each window picks its first pixel
    root = parsed(pools.section(found, x, ["image 0"], "maps"))
    (dots,) = [path.get("d") for path in root.iter("path") if path.get("class").startswith("dot")]
    assert dots.count("M") == 16 * 16 and dots.startswith("M0.5 0.5h0M2.5 0.5h0")
    assert "middle of maps of 40x64" in "".join(root.itertext())
    assert root.findall(".//image")[1].get("width") == "32"


def test_a_stochastic_pool_shows_its_chances_and_draws_and_a_map_without_positive_values_no_dot():
    images = np.concatenate([np.ones((1, 2, 4, 4)), -np.ones((1, 2, 4, 4))]).astype(np.float32)
    found = picks(Net([StochasticPool(2)], (2, 4, 4), 1), images)
    root = parsed(pools.section(found, images, ["a", "b"], "maps"))
    captions = ["channel 0", "chances", "draw 1", "draw 2", "draw 3"]
    assert [caption.text for caption in root.iter("figcaption")] == ["a", *captions, "b", *captions]
    dots = [path.get("d") for path in root.iter("path") if path.get("class").startswith("dot")]
    assert [text.count("M") for text in dots] == [4, 4, 4]


def test_pictures_are_the_numbers():
    from matplotlib.image import imread

    values = np.array([[0, 1], [2, 4]], np.float32)
    shown = imread(io.BytesIO(pools.png(values)))[..., :3]
    np.testing.assert_allclose(shown, np.repeat(values[..., None] / 4, 3, axis=2), atol=0.003)
    colors = RNG.integers(0, 256, (3, 5, 4)).astype(np.uint8)
    shown = imread(io.BytesIO(pools.picture(colors)))[..., :3]
    np.testing.assert_allclose(shown, colors.transpose(1, 2, 0) / 255, atol=1e-6)
    assert imread(io.BytesIO(pools.picture(colors.astype(np.float32)))).shape[:2] == (5, 4)
    assert imread(io.BytesIO(pools.picture(np.zeros((2, 300, 50), np.uint8)))).shape[:2] == (100, 17)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.full((2, 2), np.nan), np.array([[1e30, -np.inf]])])
def test_pictures_of_constant_and_infinite_maps(values):
    assert pools.png(values.astype(np.float32)).startswith(b"\x89PNG")


# -- kernels on the page ----------------------------------------------------------------------------


def of(mean, sigma, tilt=None, path="0", window=(5, 7), channels=None):
    """Kernels of a layer."""
    mean, sigma = np.array(mean, float), np.array(sigma, float)
    tilt = np.zeros(mean.shape[:2]) if tilt is None else np.array(tilt, float)
    return kernel_log.Kernels(path, "GaussianPool((5, 7))", window, mean, sigma, tilt, channels or len(mean))


def test_ellipses_are_where_the_kernels_are():
    epochs = [(0, [of([[[0, 0]]], [[[1, 1]]])]), (4, [of([[[1, -2]]], [[[0.5, 2]]])])]
    root = parsed(kernels.section(epochs))
    cell = kernels.SMALL / 7
    stills = [c.get("transform") for c in root.iter("circle") if "before" not in c.get("class", "before")]
    expected = [cell * 3.5, cell * 2.5, cell, cell], [cell * 1.5, cell * 3.5, cell * 2, cell * 0.5]
    for still, places in zip(stills, expected, strict=True):
        assert numbers(still) == pytest.approx(places, abs=0.006)
    cell = kernels.BIG / 7
    before = next(c for c in root.iter("circle") if c.get("class") == "before h0")
    assert numbers(before.get("transform")) == pytest.approx([cell * 3.5, cell * 2.5, cell, cell], abs=0.006)
    (way,) = [p.get("d") for p in root.iter("path") if p.get("class") == "way"]
    assert numbers(way) == pytest.approx([cell * 3.5, cell * 2.5, cell * 1.5, cell * 3.5], abs=0.006)


def test_the_animation_passes_through_each_epoch():
    epochs = [(e, [of([[[e / 10, 0]]], [[[1, 1 + e]]])]) for e in range(4)]
    text = kernels.section(epochs)
    (frames,) = re.findall(r"@keyframes k0-0-0\{((?:[\d.%,]+\{[^}]*\})+)\}", text)
    total, cell = kernels.duration(4), kernels.BIG / 7
    for i, (shares, moved) in enumerate(re.findall(r"([\d.%,]+)\{transform:([^}]*)\}", frames)):
        assert numbers(shares)[0] == pytest.approx(100 * kernels.SECONDS * i / total, abs=0.01)
        assert numbers(moved) == pytest.approx(
            [cell * 3.5, cell * (2.5 + i / 10), cell * (1 + i), cell], abs=0.006
        )
        assert f"#e{i}:checked~article .still{{--at:{-kernels.SECONDS * i:g}s}}" in text
    assert i == 3 and shares.endswith(",100%")


def test_a_tilted_ellipse_has_the_kernels_covariance():
    tilted = of([[[1, 2]]], [[[0.5, 2]]], [[-0.6]])
    root = parsed(kernels.section([(0, [tilted]), (1, [tilted])]))
    cell = kernels.SMALL / 7
    *_, last = (c.get("transform") for c in root.iter("circle") if c.get("class") == "h0")
    a, b, c, d, x, y = numbers(last)
    assert (x, y) == pytest.approx((cell * 5.5, cell * 3.5), abs=0.006)
    matrix = np.array([[a, c], [b, d]]) / cell
    np.testing.assert_allclose(matrix @ matrix.T, [[4, -0.6], [-0.6, 0.25]], atol=0.01)
    assert "correlation -0.60" in "".join(root.itertext())


def test_each_layer_channel_and_kernel_is_drawn():
    shared, own = (
        of(np.zeros((1, 3, 2)), np.ones((1, 3, 2)), path="1/0"),
        of(np.zeros((12, 7, 2)), np.ones((12, 7, 2)), path="1/1", channels=40),
    )
    root = parsed(kernels.section([(i, [shared, own]) for i in range(100)]))
    assert [h.findtext("code") for h in root.iter("h3")] == ["1/0", "1/1"]
    cards = [svg for svg in root.iter("svg") if svg.get("class") == "card"]
    assert [card.findtext("text") for card in cards] == ["all channels", *(f"channel {c}" for c in range(12))]
    moving = [g for g in cards[1].iter("g") if g.get("class", "").startswith("k ")]
    assert len(moving) == 2 * 7  # one that moves, one that is held
    shown = [text.text for text in cards[0].iter("text")][1:]
    assert (shown[0], shown[-1], len(shown)) == ("0", "99", kernels.STILLS)
    assert len([i for i in root.iter("input")]) == 1 + kernels.FRAMES
    assert "the first 12 of 40 channels" in "".join(root.itertext())


def test_a_layer_that_was_changed_on_the_way_is_shown_from_there():
    before, after = of([[[0, 0]]], [[[1, 1]]]), of([[[0, 0]], [[1, 1]]], [[[1, 1]], [[1, 1]]])
    root = parsed(kernels.section([(0, [before]), (1, [after]), (2, [after])]))
    assert "From epoch 1 to 2 the means moved by 0.00 px" in "".join(root.itertext())
    assert not kernels.section([]) and not kernels.section([(0, [])])
    assert "k0-0-0" in kernels.section([(0, [before])])


def test_a_window_of_a_whole_map_has_no_grid():
    layer = GaussianPool(None)
    Net([layer], (1, 60, 60), 1)
    drawn = of([[[0, 0]]], [[[9, 9]]], window=(60, 60))
    root = parsed(kernels.section([(0, [drawn])]))
    assert {p.get("d") for p in root.iter("path") if p.get("class") == "grid"} == {"M0 0"}


def test_indices_are_spread_evenly():
    assert kernels.evenly(11, 6) == [0, 2, 4, 6, 8, 10]
    assert kernels.evenly(3, 6) == [0, 1, 2] and kernels.evenly(1, 6) == [0]
    assert kernels.evenly(100, 6)[::5] == [0, 99]


def test_the_page_escapes_what_it_is_told_and_loads_nothing():
    text = page("<run>", {"a&b": "<c>"}, [], ["1 < 2"])
    assert "&lt;run&gt;" in text and "<script" not in text
    assert set(re.findall(r"https?://[^\"' )]+", text)) == {"http://www.w3.org/1999/xhtml"}
