"""Model files from graphs: the text, and that it makes the graph it was made from."""

from pathlib import Path

import pytest

pytest.importorskip("onnx")

import onnx
from onnx_models import Drawn

from minet import Concat, Sequential, Sum
from minet.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    Elementwise,
    Identity,
    Linear,
    MaxPool,
    PReLU,
    ReLU,
    Softmax,
)
from minet.onnx import load
from minet.onnx.model_text import model_text
from minet.onnx.recurring import Block, Recurring

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def run(text):
    space = {}
    exec(compile(text, "model.py", "exec"), space)
    return space


def plain(item):
    """An item without differences that mean nothing: settings that the layer has anyway."""
    if isinstance(item, Block):
        return item.name, [[plain(one) for one in branch] for branch in item.branches]
    return item.name, {name: repr(value) for name, value in item.settings.items()}


def assert_makes(text, graph, input_shape):
    space = run(text)
    assert space["input_shape"] == input_shape
    assert plain(Recurring().item(space["net"]())) == plain(Recurring().item(graph))


def text_of(*layers, shape=(3, 8, 8)):
    graph = Sequential(*layers)
    text = model_text(graph, shape, "Doc.")
    assert_makes(text, graph, shape)
    assert all(len(line) <= 110 for line in text.splitlines())
    return text


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted(LIGHT.glob("*.onnx")) if "shufflenet" not in path.stem]
)
def test_a_real_networks_file_makes_it(name):
    graph, input_shape, _ = load(LIGHT / f"{name}.onnx")
    assert_makes(model_text(graph, input_shape, "Doc."), graph, input_shape)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_graphs_file_makes_it(seed, tmp_path):
    onnx.save(Drawn(seed).model(), tmp_path / "a.onnx")
    graph, input_shape, _ = load(tmp_path / "a.onnx")
    assert_makes(model_text(graph, input_shape, "Doc."), graph, input_shape)


def test_parameters_of_functions_in_functions_have_names_of_their_own():
    def inner(*maps):
        return Concat(*([Conv(m, 1), PReLU()] for m in maps))

    def outer(i):
        return Concat([inner(*range(i, i + 12)), Conv(i, 1), inner(100 + i, 200 * i)], Conv(2 * i, 1))

    text = text_of(outer(1), outer(3), inner(*range(5, 17)))
    assert "def concat(" in text and "def inception(" in text


def test_the_first_inceptions_nine_blocks_are_calls_of_a_function():
    graph, input_shape, _ = load(LIGHT / "light_inception_v1.onnx")
    text = model_text(graph, input_shape, "Doc.")
    assert (
        """
def conv_relu(maps, window, stride=1, pad=0):
    return [Conv(maps, window, stride=stride, pad=pad), ReLU()]


def inception(maps1, maps2, maps3, maps4, maps5, maps6):
    return Concat(
        conv_relu(maps1, 1),
        [*conv_relu(maps2, 1), *conv_relu(maps3, 3, pad=1)],
        [*conv_relu(maps4, 1), *conv_relu(maps5, 5, pad=2)],
        [MaxPool(3, stride=1, pad=1), *conv_relu(maps6, 1)],
    )
"""
        in text
    )
    assert text.count("\n        inception(") == 9 and len(text.splitlines()) < 60


def test_densenets_layers_are_counted():
    graph, input_shape, _ = load(LIGHT / "light_densenet121.onnx")
    text = model_text(graph, input_shape, "Doc.")
    assert [f"*(dense() for _ in range({n}))," in text for n in (6, 12, 24, 16)] == [True] * 4


def test_what_does_not_recur_stands_where_it_is():
    text = text_of(Conv(4, 3), ReLU(), Concat([Conv(2, 1), PReLU()], MaxPool(3, stride=1, pad=1)), Linear(3))
    assert "Concat([Conv(2, 1), PReLU()], MaxPool(3, stride=1, pad=1))," in text
    assert text.count("def ") == 3  # net, solver, datasets


def test_parameters_are_what_differs():
    """A setting that is the same everywhere is none; settings that differ together share one."""

    def block(maps, stride):
        return Sum(
            [Conv(maps, 3, stride=stride, pad=1), ReLU(), Conv(maps, 3, pad=1), Dropout(0.5)],
            Conv(maps, 1, stride),
        )

    text = text_of(block(4, 1), block(8, 2), block(8, 1))
    assert "def projection(maps, stride=1):" in text
    assert "projection(4),\n        projection(8, stride=2),\n        projection(8),\n" in text
    assert "Conv(maps, 1, stride=stride)" in text and "Dropout(0.5)" in text


def test_layers_that_differ_in_more_than_numbers_are_different_functions():
    text = text_of(
        *[layer for i in range(4) for layer in (Conv(4 + i, 3, pad=1, bias=i % 2 == 0), BatchNorm(), ReLU())]
    )
    assert "def conv_norm_relu(" in text and "def conv_norm_relu_2(" in text


def test_blocks_within_blocks_are_functions_of_their_own():
    def inner(maps):
        return Concat([Conv(maps, 1), PReLU()], Identity())

    def outer(maps):
        return Sum([inner(maps), Conv(3, 1)], [inner(2 * maps), Conv(3, 1)])

    text = text_of(outer(2), outer(3), inner(5))
    assert text.index("def dense(") < text.index("def projection(")
    assert "projection(2, 4)," in text and "dense(5)," in text


def test_settings_of_all_kinds_are_written():
    text = text_of(
        Conv(4, (3, 2), stride=(1, 2), pad=((0, 1), (1, 1)), dilation=(1, 2)),
        Elementwise("a * x", a=1.0, shared=True),
        Elementwise("min(max(x, 0.0), 6.0)"),
        PReLU(shared=True),
        AvgPool(2, ceil=True, count_pad=True, pad=1),
        Dropout(0.4),
        AvgPool(),
        Linear(5, bias=False),
    )
    for line in (
        "Conv(4, (3, 2), stride=(1, 2), pad=((0, 1), (1, 1)), dilation=(1, 2)),",
        'Elementwise("a * x", shared=True, a=1.0),',
        'Elementwise("min(max(x, 0.0), 6.0)"),',
        "PReLU(shared=True),",
        "AvgPool(2, pad=1, ceil=True, count_pad=True),",
        "Dropout(0.4),",
        "AvgPool(),",
        "Linear(5, bias=False),",
    ):
        assert f"        {line}\n" in text


def test_a_softmax_at_the_end_says_how_to_train():
    text = text_of(Linear(3), Softmax())
    assert "softmax=False to train" in text
    assert repr(run(text)["net"](softmax=False)) == "Sequential(Linear(3))"
    assert "softmax=False" not in text_of(Softmax(), Linear(3))


def test_equal_layers_in_a_row_are_written_once():
    assert "*(MaxPool(2, stride=1) for _ in range(4))," in text_of(*[MaxPool(2, stride=1) for _ in range(4)])
    assert "range" not in text_of(*[MaxPool(2, stride=1) for _ in range(2)])
