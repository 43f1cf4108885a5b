"""How many kernels a layer launches: on small images a launch costs more than what it computes.

leaf_front, whose rows are of 16,000 numbers, is not asked: its long windows take a pass along each axis.
"""

from collections import defaultdict

import pytest

from minet import Net, backends
from minet.train import modelfile

MOST = 2  # in each direction


@pytest.mark.parametrize("name", [name for name in modelfile.names() if name != "leaf_front"])
def test_a_models_layers_take_two_launches_a_direction(name, monkeypatch):
    """Counted without running them; what a net's containers launch is not their layers'."""
    model, be = modelfile.load(name), backends.get("emu")
    net = Net(model.net(), model.input_shape, 16, model.loss, be)
    launched, now = defaultdict(list), []
    monkeypatch.setattr(be, "call", lambda path, kernel, *_, **__: launched[tuple(now)].append(kernel))

    def noting(layer, direction):
        def run(*args, **options):
            now[:] = layer.full_path, direction
            getattr(type(layer), direction)(layer, *args, **options)
            now[:] = "between", direction

        return run

    for layer in net.graph.walk():
        if not layer.children:
            for direction in ("fprop", "bprop"):
                monkeypatch.setitem(vars(layer), direction, noting(layer, direction))
    net.graph.fprop(net.memory.x, net.y, 0.0, True)
    net.graph.bprop(net.memory.x, net.dy, None, 0.0)
    assert len(launched) > 2 * MOST
    layers = {place: kernels for place, kernels in launched.items() if place[0] != "between"}
    assert {place: kernels for place, kernels in layers.items() if len(kernels) > MOST} == {}
