"""Charts: where points are, what the axes say, and numbers that no chart can show."""

import math
import re
from xml.etree import ElementTree

import pytest

from minet.report.chart import BOTTOM, HEIGHT, Line, chart, log_ticks, ticks


def drawn(*lines, **options):
    root = ElementTree.fromstring(chart("a < b", lines, **options))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def circles(root):
    return [(float(one.get("cx")), float(one.get("cy"))) for one in root.iter("circle")]


def test_points_are_where_their_numbers_are():
    (x1, y1), (x2, y2), (x3, y3) = circles(drawn(Line("train", [(1, 1), (2, 3), (5, 2)])))
    assert x1 < x2 < x3 and (x3 - x1) / (x2 - x1) == pytest.approx(4, abs=0.02)
    assert y2 < y3 < y1 and (y1 - y2) / (y1 - y3) == pytest.approx(2, abs=0.02)


def test_far_apart_numbers_are_on_a_logarithmic_scale():
    (_, y1), (_, y2), (_, y3) = circles(drawn(Line("rate", [(1, 1), (2, 0.1), (3, 0.01)])))
    assert y3 - y2 == pytest.approx(y2 - y1, abs=0.2)


def test_labels_tell_the_last_number_and_the_axis_is_short():
    root = drawn(Line("test", [(1, 0.5), (2, 0.75)], 1), text="{:.3f}".format, percent=True)
    assert root.findtext("h4") == "a < b"
    assert [b.text for b in root.iter("b")] == ["test 0.750"]
    assert [t.text for t in root.iter("text")][:2] == ["50 %", "60 %"]
    assert [t.text for t in root.iter("title")][1:] == ["test, 1: 0.500", "test, 2: 0.750"]


def test_lines_of_one_colour_differ_in_their_dashes_and_so_do_their_labels():
    root = drawn(*(Line(str(i), [(1, i), (2, i)], i) for i in range(6)))
    looks = [one.get("class") for one in root.iter("g")]
    assert looks[0] == "h0 d0" and looks[5] == "h0 d1"
    assert [one.get("class") for one in root.iter("b")] == looks


def test_a_spread_is_shaded_on_both_sides():
    root = drawn(Line("mean", [(1, 2), (2, 2)], spread=[1, 0]))
    (band,) = (path.get("d") for path in root.iter("path") if path.get("class") == "band")
    ys = [float(point.split()[1]) for point in re.split("[MLz]", band) if point]
    (_, y), _ = circles(root)
    assert ys[1] == ys[2] == y and ys[0] < y < ys[3]
    assert ys[3] - y == pytest.approx(y - ys[0], abs=0.2) and ys[3] < HEIGHT - BOTTOM


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [0.0],
        [2.0, 2.0],
        [-1e-300, 0.0],
        [1e29, -1e29],
        [math.nan, 1.0],
        [1.0, math.inf],
        [1e-45, 1e25],
    ],
)
def test_any_numbers_make_a_chart(values):
    root = drawn(Line("x", list(enumerate(values, 1))))
    assert all(0 <= y <= HEIGHT for _, y in circles(root)) and circles(root)


def test_numbers_that_are_not_finite_are_told():
    root = drawn(Line("x", [(1, math.nan), (2, math.inf), (3, 1e40)]))
    assert root.findtext("p") == "No number is finite."


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0.9, 0.96, [0.9, 0.92, 0.94, 0.96]), (-3, 17, [0, 5, 10, 15]), (1, 3, [1, 2, 3])],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high, 4, least=1 if high == 3 else 0) == pytest.approx(expected)


def test_ticks_of_a_logarithmic_axis():
    assert log_ticks(0.9, 30) == pytest.approx([1, 2, 5, 10, 20])
    assert log_ticks(1e-9, 1) == pytest.approx([1e-9, 1e-7, 1e-5, 1e-3, 1e-1])


def test_a_spread_belongs_to_its_point():
    line = Line("f1", [(1, math.nan), (2, 0.5), (3, 0.6)], spread=[math.nan, 0.1, 0.2])
    assert "nan" not in chart("f1", [line])
    assert line.shade == [(2, 0.5, 0.1), (3, 0.6, 0.2)]
