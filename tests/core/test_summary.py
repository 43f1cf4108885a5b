"""The column of `Net.summary` that says which channels of a Concat's output each branch writes."""

import numpy as np

from minet import Concat, Net, Sequential, Sum
from minet.core.summary import slices
from minet.layers import Conv, Identity, ReLU


def writes(*layers, channels=2):
    net = Net(layers, (channels, 4, 4), 3)
    return {layer.path: part for layer, part in slices(net.graph, net.shapes).items()}


def test_the_last_layer_of_a_branch_writes_its_slice():
    block = Concat(Conv(5, 1), [Conv(4, 1), ReLU()], Identity())
    assert writes(block, ReLU()) == {"0/0": "y[0:5]", "0/1/1": "y[5:9]", "0/2": "y[9:11]"}


def test_without_a_concat_there_is_no_column():
    net = Net([Conv(5, 1), Sum(Identity(), ReLU())], (2, 4, 4), 3)
    assert slices(net.graph, net.shapes) == {}
    assert net.summary().splitlines()[0].split() == [
        "path",
        "layer",
        "output",
        "(C,",
        "H,",
        "W)",
        "parameters",
    ]


def test_the_column_lines_up():
    lines = Net([Concat(Conv(5, 1), Identity()), ReLU()], (2, 4, 4), 3).summary().splitlines()
    assert lines[:5] == [
        "path  layer       output (C, H, W)  writes  parameters",
        "----  ----------  ----------------  ------  ----------",
        "0/0   Conv(5, 1)             5x4x4  y[0:5]          15",
        "0/1   Identity()             2x4x4  y[5:7]           0",
        "1     ReLU()                 7x4x4                   0",
    ]


def test_a_concat_that_ends_a_branch_counts_in_the_outer_output():
    inner = Sequential(ReLU(), Concat(Identity(), Conv(3, 1)))
    assert writes(Concat(Conv(4, 1), inner)) == {"0/0": "y[0:4]", "0/1/1/0": "y[4:6]", "0/1/1/1": "y[6:9]"}


def test_a_concat_inside_a_branch_has_an_output_of_its_own():
    inner = Sequential(Concat(Identity(), Conv(3, 1)), ReLU())
    assert writes(Concat(Conv(4, 1), inner)) == {
        "0/0": "y[0:4]", "0/1/0/0": "y[0:2]", "0/1/0/1": "y[2:5]", "0/1/1": "y[4:9]",
    }  # fmt: skip


def test_the_branches_of_a_sum_write_the_same_slice():
    block = Concat(Conv(4, 1), Sum(Identity(), [ReLU(), Conv(2, 1)]))
    assert writes(block) == {"0/0": "y[0:4]", "0/1/0": "y[4:6]", "0/1/1/1": "y[4:6]"}


def test_the_slices_are_where_the_branches_write():
    """Each branch is computed once more, alone, and found where the table says."""
    net = Net(Concat(Conv(3, 1), Concat([ReLU(), Conv(2, 1)], Identity()), Conv(1, 1)), (2, 4, 4), 3)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    y = net.fprop(x).copy()
    parts = slices(net.graph, net.shapes)
    assert list(parts.values()) == ["y[0:3]", "y[3:5]", "y[5:7]", "y[7:8]"]
    for layer, part in parts.items():
        taken = np.maximum(x, 0) if layer.path == "1/0/1" else x
        alone = np.empty((*net.shapes[layer][1], 3), "float32")
        layer.fprop(taken, alone, train=False)
        np.testing.assert_array_equal(eval(part, {"y": y}), alone)
