"""Whether a change of what layers compute from is seen."""

from types import SimpleNamespace

import numpy as np
import pytest

from minet import MeanSquaredError, Net, Sequential
from minet.backends.settings_watch import Watch
from minet.layers import Conv, Dropout, Identity


class Rich(Identity):
    def __init__(self):
        self.rate, self.sizes, self.table = 0.25, [1, 2, {"deep": 3}], np.arange(3.0)
        self.options, self.names, self.pair = {"a": 1, "b": SimpleNamespace(c=2)}, {"x"}, ([1], 2)


def set_to(name, value):
    return lambda layer: setattr(layer, name, value)


CHANGES = {
    "rate": (set_to("rate", 0.5), "rate"),
    "another type": (set_to("sizes", (1, 2)), "sizes"),
    "a new name": (set_to("new", 1), "0:Rich"),
    "a name less": (lambda layer: delattr(layer, "rate"), "0:Rich"),
    "in a list": (lambda layer: layer.sizes.append(3), "sizes"),
    "in a dict in a list": (lambda layer: layer.sizes[2].update(deep=4), "sizes: 2: deep"),
    "in a dict": (lambda layer: layer.options.update(a=2), "options: a"),
    "in a set": (lambda layer: layer.names.add("y"), "names"),
    "in an object": (lambda layer: setattr(layer.options["b"], "c", 3), "options: b: c"),
    "in a list in a tuple": (lambda layer: layer.pair[0].append(5), "pair: 0"),
    "in an array": (lambda layer: layer.table.__setitem__(1, 7), "table"),
}


@pytest.fixture
def layer():
    layer = Rich()
    Net(Sequential(layer), (1, 2, 2), 3, MeanSquaredError())
    return layer


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_and_named(layer, change):
    watch = Watch([layer])
    assert watch.changed() == "" == watch.changed()
    do, name = CHANGES[change]
    do(layer)
    assert watch.changed().startswith("0:Rich (") and watch.changed().endswith(
        name.removeprefix("0:Rich") or ")"
    )
    assert Watch([layer]).changed() == ""


def test_the_same_values_in_other_objects_are_no_change(layer):
    layer.train = False
    watch = Watch([layer])
    layer.rate, layer.train = float("0.25"), True
    assert watch.changed() == ""


def test_steps_change_no_setting():
    net = Net([Conv(2, 3, pad=1), Dropout(0.5)], (1, 4, 4), 3, MeanSquaredError())
    x = np.ones((1, 4, 4, 3), np.float32)
    net.fprop(x, train=True)
    watch = Watch([*net.graph.children, net.loss])  # the Sequential holds activations, on the host here
    for train in (False, True):
        net.fprop(x, train=train)
        net.bprop(net.dy)
        net.clock.step += 1
    assert watch.changed() == ""


def test_objects_that_refer_to_each_other_are_looked_into_once(layer):
    one, two = SimpleNamespace(), SimpleNamespace(value=1.0)
    one.other, two.other, layer.kept = two, one, one
    watch = Watch([layer])
    assert watch.changed() == ""
    two.value = 2.0
    assert watch.changed().endswith("value")
