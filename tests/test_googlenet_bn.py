"""models/googlenet_bn.py: its blocks are those of the paper's table, and it trains."""

import itertools
import re

import numpy as np
import pytest

from minet import Net
from minet.layers import AvgPool, BatchNorm, Conv, GaussianPool, MaxPool, ReLU
from minet.train import modelfile

TABLE = {  # table 1 of arXiv 1409.4842: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj, then the depth
    "3a": (64, 96, 128, 16, 32, 32, 256),
    "3b": (128, 128, 192, 32, 96, 64, 480),
    "4a": (192, 96, 208, 16, 48, 64, 512),
    "4b": (160, 112, 224, 24, 64, 64, 512),
    "4c": (128, 128, 256, 24, 64, 64, 512),
    "4d": (112, 144, 288, 32, 64, 64, 528),
    "4e": (256, 160, 320, 32, 128, 128, 832),
    "5a": (256, 160, 320, 32, 128, 128, 832),
    "5b": (384, 192, 384, 48, 128, 128, 1024),
}


def made(batch=1, **settings):
    model = modelfile.load("googlenet_bn", **settings)
    return Net(model.net(), model.input_shape, batch, model.loss)


@pytest.fixture(scope="module")
def net():
    return made()


def test_the_blocks_have_the_sizes_of_the_papers_table(net):
    places = dict(zip(TABLE, [4, 5, 7, 8, 9, 10, 11, 13, 14], strict=True))
    for name, (n1, r3, n3, r5, n5, proj, depth) in TABLE.items():
        block = net.graph.layers[places[name]]
        convs = [(layer.maps, *layer.window.size) for layer in block.walk() if isinstance(layer, Conv)]
        assert convs == [(n1, 1, 1), (r3, 1, 1), (n3, 3, 3), (r5, 1, 1), (n5, 5, 5), (proj, 1, 1)], name
        size = {"3": 16, "4": 8, "5": 4}[name[0]]
        assert net.shapes[block][1] == (depth, size, size), name


def test_it_has_as_many_parameters_as_the_papers_net(net):
    """The paper's convolutions with two numbers of BatchNorm for each map, and a head for ten classes."""
    expected, channels = 9 * 3 * 64 + 64 * 64 + 9 * 64 * 192 + 2 * (64 + 64 + 192), 192
    for n1, r3, n3, r5, n5, proj, depth in TABLE.values():
        expected += channels * (n1 + r3 + r5 + proj) + 9 * r3 * n3 + 25 * r5 * n5
        expected += 2 * (n1 + r3 + n3 + r5 + n5 + proj)
        channels = depth
    expected += 1024 * 10 + 10
    assert sum(value.size for value in net.params.values()) == expected


def test_every_convolution_is_normalised_and_rectified(net):
    leaves = [layer for layer in net.graph.walk() if not layer.children]
    for i, layer in enumerate(leaves):
        if isinstance(layer, Conv):
            assert not layer.bias
            assert isinstance(leaves[i + 1], BatchNorm) and isinstance(leaves[i + 2], ReLU)


def test_the_summary_shows_every_slice_that_a_branch_writes(net):
    found = re.findall(r"^(\d+)/.*  (y\[\d+:\d+\])  ", net.summary(), re.MULTILINE)
    for place, (n1, _, n3, _, n5, proj, depth) in zip(
        [4, 5, *range(7, 12), 13, 14], TABLE.values(), strict=True
    ):
        starts = np.cumsum([0, n1, n3, n5, proj]).tolist()
        assert starts[-1] == depth
        mine = [part for path, part in found if path == str(place)]
        assert mine == [f"y[{lo}:{hi}]" for lo, hi in itertools.pairwise(starts)]
    assert len(found) == 9 * 4


def test_width_and_kernels_are_settings():
    net = made(width=0.25, kernels=2)
    pools = [layer for layer in net.graph.walk() if isinstance(layer, (MaxPool, GaussianPool, AvgPool))]
    assert [type(pool).__name__[0] for pool in pools] == list("MGGMGGGGGMGGA")
    assert net.shapes[net.graph.layers[4]][1] == (64, 16, 16)
    assert net.shapes[net["4/3/0"]][1] == (2 * 48, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize("kernels", [0, 1])
def test_it_learns(kernels):
    model = modelfile.load("googlenet_bn", width=0.1, kernels=kernels, dropout=0.0, lr=0.05)
    net, solver = Net(model.net(), model.input_shape, 8, model.loss, seed=1), model.solver()
    rng = np.random.default_rng(0)
    labels = np.arange(8) % 4
    x = rng.normal(size=(3, 32, 32, 4))[..., labels] + 0.5 * rng.normal(size=(3, 32, 32, 8))
    losses = [net.train_step(x.astype("float32"), labels, solver) for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
