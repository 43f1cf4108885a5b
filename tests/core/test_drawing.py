"""Pictures of nets and of Gaussian kernels: what is in them, and that they are well-formed."""

from xml.etree import ElementTree

import numpy as np
import pytest

from minet import Concat, Layer, Net, Sequential, Sum
from minet.core import drawing
from minet.layers import Conv, GaussianPool, Identity, PReLU

SVG = "{http://www.w3.org/2000/svg}"


def drawn(graph, in_shape=(3, 8, 8)):
    """Return the root of a net's picture, and its texts."""
    root = ElementTree.fromstring(Net(graph, in_shape, 2)._repr_svg_())
    return root, [element.text for element in root.iter(f"{SVG}text")]


def test_each_layer_has_its_call_shape_and_parameters():
    _, texts = drawn([Conv(4, 3, pad=1), PReLU()])
    assert texts[0] == "3x8x8"
    assert "Conv(4, 3, pad=1)" in texts and "4x8x8   112 parameters" in texts
    assert "PReLU()" in texts and "4x8x8   4 parameters" in texts


def test_branches_show_their_slices_of_one_output():
    root, texts = drawn([Concat(GaussianPool(3, pad=1, stride=1, kernels=3), Identity())])
    assert [text for text in texts if text.startswith("y[")] == ["y[0:9]", "y[9:12]"]
    bars = [float(bar.get("width")) for bar in root.iter(f"{SVG}rect") if bar.get("fill-opacity")]
    assert bars[0] == pytest.approx(3 * bars[1], rel=1e-4)


def test_a_slice_too_narrow_for_its_label_has_it_as_a_title():
    root, texts = drawn([Concat(Conv(1, 1), Conv(200, 1))])
    assert "y[0:1]" not in texts
    assert "y[0:1]" in [element.text for element in root.iter(f"{SVG}title")]


def test_a_sum_is_one_bar():
    _, texts = drawn([Sum(Identity(), [Conv(3, 3, pad=1), PReLU()])])
    assert texts.count("y = the sum") == 1


def test_shared_parameters_are_counted_once():
    first = Conv(3, 1)
    _, texts = drawn([first, first.twin()])
    assert "3x8x8   12 parameters" in texts and "3x8x8   shared parameters" in texts


def test_nothing_is_drawn_beyond_the_page():
    root, _ = drawn(
        [Concat([Conv(2, 1), Sum(Identity(), Identity())], Identity(), Concat(Identity(), Conv(5, 1)))]
    )
    _, _, width, height = map(float, root.get("viewBox").split())

    def corners(element, x=0.0, y=0.0):
        if moved := element.get("transform"):
            dx, dy = map(float, moved.removeprefix("translate(").removesuffix(")").split())
            x, y = x + dx, y + dy
        if element.tag == f"{SVG}rect":
            left, top = x + float(element.get("x", 0)), y + float(element.get("y", 0))
            yield left, top
            yield left + float(element.get("width")), top + float(element.get("height"))
        for child in element:
            yield from corners(child, x, y)

    found = list(corners(root))
    assert len(found) > 10 and all(0 <= x <= width and 0 <= y <= height for x, y in found)


class Odd(Layer):
    """A layer whose name and settings need escaping, with a child."""

    def __init__(self, name):
        self.name = name

    def out_shape(self, in_shape):
        return in_shape


def test_what_is_special_in_xml_is_escaped():
    _, texts = drawn([Odd("<&>")])
    assert "Odd('<&>')" in texts


def test_gaussians_lie_where_their_means_are():
    means, sigmas = np.array([[[1.0, -2.0]]]), np.array([[[0.5, 2.0]]])
    root = ElementTree.fromstring(drawing.gaussians(means, sigmas, (5, 7)))
    (ellipse,) = root.iter(f"{SVG}ellipse")
    cell = drawing.CELL
    found = [float(ellipse.get(name)) for name in ("cy", "cx", "ry", "rx")]
    assert found == [cell * 3.5, cell * 1.5, cell * 0.5, cell * 2]


def test_a_correlation_tilts_the_ellipse():
    """Sigmas of 1 and a correlation of 0.5: the axes are the diagonals, with variances of 1.5 and 0.5."""
    svg = drawing.gaussians(
        np.zeros((1, 1, 2)), np.ones((1, 1, 2)), (3, 3), correlations=np.full((1, 1), 0.5)
    )
    (ellipse,) = (e for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("ellipse"))
    assert float(ellipse.get("rx")) == pytest.approx(drawing.CELL * 1.5**0.5, abs=0.01)
    assert float(ellipse.get("ry")) == pytest.approx(drawing.CELL * 0.5**0.5, abs=0.01)
    assert float(ellipse.get("transform")[7:].split()[0]) % 180 == pytest.approx(45)  # down and right


def test_a_layer_of_many_channels_is_drawn_in_part():
    root = ElementTree.fromstring(
        drawing.gaussians(np.zeros((30, 2, 2)), np.ones((30, 2, 2)), (3, 3), most=4)
    )
    assert len(list(root.iter(f"{SVG}ellipse"))) == 8


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_gaussian_pool_draws_itself_bound_or_not(per_channel):
    layer = GaussianPool(5, kernels=3, per_channel=per_channel)
    assert layer._repr_svg_().count("<ellipse") == 3
    Net([layer], (4, 10, 10), 2)
    assert layer._repr_svg_().count("<ellipse") == (12 if per_channel else 3)


def test_a_root_that_is_no_sequential():
    assert drawing.net(*_root(Conv(2, 1))).count("<rect") == 1
    assert drawing.net(*_root(Sequential(Sequential(Identity())))).count("<rect") == 1


def _root(graph):
    net = Net(graph, (3, 8, 8), 2)
    return net.graph, net.shapes
