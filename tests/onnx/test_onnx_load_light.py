"""The graphs that the package onnx ships, with the outputs that it expects of them.

Their weights are constants, so most outputs are alike. Two of the graphs also get random weights here.
"""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx_models import by_onnxruntime

from minet import Concat, MinetError, Net, Sequential
from minet.layers import Conv, MaxPool
from minet.onnx import load

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
QUICK = ["inception_v1", "resnet50"]
SLOW = ["squeezenet", "inception_v2", "densenet121"]
SLOW += ["bvlc_alexnet", "zfnet512", "vgg19"]  # up to half a gigabyte of weights, and as much for gradients


def file_of(name):
    return LIGHT / f"light_{name}.onnx"


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_graph_gives_its_expected_output(name):
    graph, input_shape, weights = load(file_of(name))
    net = Net(graph, input_shape, 1)
    net.load(weights)
    # As onnx/backend/test/runner makes it.
    count = np.prod(input_shape)
    found = net.predict((np.arange(count).reshape(1, *input_shape) / count).astype(np.float32))
    expected = onnx.numpy_helper.to_array(onnx.load_tensor(LIGHT / f"light_{name}_output_0.pb"))
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4)  # they are 0.001


def with_random_weights(model):
    """The model with initialisers drawn from a seed, in place of its constants."""
    draw = np.random.default_rng(0)
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for proto in [p for p in model.graph.node if p.op_type == "ConstantOfShape"]:
        shape, name = shapes[proto.input[0]], proto.output[0]
        if len(shape) > 1:
            values = draw.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            values = draw.uniform(0.5, 1.5, shape) if "_b_" not in name else draw.uniform(-0.1, 0.1, shape)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
        model.graph.node.remove(proto)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inception_v1", "densenet121"])
def test_with_random_weights_it_agrees_with_onnxruntime(name, tmp_path):
    made = with_random_weights(onnx.load(file_of(name)))
    onnx.save(made, tmp_path / "a.onnx")
    graph, input_shape, weights = load(tmp_path / "a.onnx")
    net = Net(graph, input_shape, 1)
    net.load(weights)
    x = np.random.default_rng(1).random((1, *input_shape), np.float32)
    expected = by_onnxruntime(made, x)
    assert abs(expected).max() > 1.5 * abs(expected).mean()  # it is not the same for all classes
    scale = abs(expected).max()
    np.testing.assert_allclose(net.predict(x).reshape(expected.shape), expected, rtol=0, atol=1e-4 * scale)


def test_the_nine_blocks_of_the_first_inception_write_into_slices_of_one_output():
    graph, input_shape, _ = load(file_of("inception_v1"))
    assert isinstance(graph, Sequential)
    blocks = [layer for layer in graph.layers if isinstance(layer, Concat)]
    maps = [  # table 1 of Szegedy et al., "Going deeper with convolutions"
        [64, 128, 32, 32], [128, 192, 96, 64], [192, 208, 48, 64], [160, 224, 64, 64], [128, 256, 64, 64],
        [112, 288, 64, 64], [256, 320, 128, 128], [256, 320, 128, 128], [384, 384, 128, 128],
    ]  # fmt: skip
    assert [[branch.layers[-2].maps for branch in block.layers] for block in blocks] == maps
    assert all(isinstance(block.layers[3].layers[0], MaxPool) for block in blocks)
    net = Net(graph, input_shape, 1)
    seen = {}

    def watch(layer):
        fprop = layer.fprop
        layer.fprop = lambda x, y, beta, train: (seen.__setitem__(layer, (x, y)), fprop(x, y, beta, train))

    for block in blocks:
        watch(block)
        for branch in block.layers:
            watch(branch.layers[-1])
            watch(branch.layers[0])
    net.predict(np.zeros((1, *input_shape), np.float32))
    for block, sizes in zip(blocks, maps, strict=True):
        x, y = seen[block]
        ends = np.cumsum([0, *sizes])
        for branch, low, high in zip(block.layers, ends, ends[1:], strict=False):
            part = seen[branch.layers[-1]][1]
            assert part.ctypes.data == y[low:high].ctypes.data and part.shape == y[low:high].shape
            assert isinstance(branch.layers[0], Conv | MaxPool)
            assert seen[branch.layers[0]][0] is x  # nor is what they read copied


def test_what_cannot_be_said_in_minet_is_listed():
    with pytest.raises(MinetError, match=r"Transpose: n8, n21(.|\n)*n7 \(Reshape\)"):
        load(file_of("shufflenet"))
