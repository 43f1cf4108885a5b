"""SigmaSchedule: sigma of each epoch, in all pools or in some; tested and saved as it was trained."""

import numpy as np
import pytest
from small import Interrupted

from minet import SGD, Concat, MinetError, Net, Sequential, SoftmaxCrossEntropy, Trainer, data
from minet.layers import GaussianPool, Linear
from minet.train.callback import Callback
from minet.train.callbacks import WEIGHTS, Checkpointer, SigmaSchedule


class Seen(Callback):
    """The sigmas of each epoch, at its end."""

    def __init__(self):
        self.sigmas = []

    def on_epoch(self, trainer, record):
        pools = [layer for layer in trainer.net.graph.walk() if isinstance(layer, GaussianPool)]
        self.sigmas.append([float(layer.sigma.mean()) for layer in pools])


def run(*callbacks, epochs=3, pools=True):
    pool = lambda: GaussianPool(3, sigma=0.9, learn={"mean"})  # noqa: E731
    graph = Sequential(Concat(pool(), pool()), Linear(10)) if pools else Linear(10)
    net = Net(graph, (1, 8, 8), 32, SoftmaxCrossEntropy())
    return Trainer(net, SGD(0.05), data.digits("train", limit=96), None, epochs, callbacks)


def test_it_goes_from_one_to_the_other_by_a_factor():
    seen = Seen()
    run(SigmaSchedule(2.0, 0.5), seen).fit()
    np.testing.assert_allclose(seen.sigmas, [[2, 2], [1, 1], [0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("layers", ["0/1", ["0/1"]])
def test_some_layers_and_a_function(layers):
    seen = Seen()
    run(SigmaSchedule(lambda epoch: 1.0 + epoch, layers=layers), seen).fit()
    np.testing.assert_allclose(seen.sigmas, [[0.9, 1], [0.9, 2], [0.9, 3]], rtol=1e-6)
    one = Seen()
    run(SigmaSchedule(2.0, 0.5), one, epochs=1).fit()
    np.testing.assert_allclose(one.sigmas, [[2, 2]], rtol=1e-6)


def test_a_resumed_run_has_the_same_sigmas(tmp_path):
    whole, part = (Seen(), Seen())
    run(SigmaSchedule(2.0, 0.5), whole).fit()
    with pytest.raises(KeyboardInterrupt):
        run(SigmaSchedule(2.0, 0.5), part, Interrupted(4), Checkpointer(tmp_path)).fit()
    again = run(SigmaSchedule(2.0, 0.5), part)
    again.resume(tmp_path / WEIGHTS)
    again.fit()
    assert part.sigmas == whole.sigmas


@pytest.mark.parametrize(
    ("make", "more", "message"),
    [
        (lambda: SigmaSchedule(2.0), {}, "takes two sigmas or a function"),
        (lambda: SigmaSchedule(abs, 1.0), {}, "takes two sigmas or a function"),
        (lambda: SigmaSchedule(2.0, 0.0), {}, "a sigma must be a number of pixels above 0, got 0.0"),
        (lambda: SigmaSchedule("2", 1.0), {}, "a sigma must be a number of pixels above 0, got '2'"),
        (lambda: SigmaSchedule(2.0, 1.0), {"pools": False}, "the net has no GaussianPool"),
        (lambda: SigmaSchedule(2.0, 1.0, "1"), {}, r"1:Linear .*is not a GaussianPool"),
        (lambda: SigmaSchedule(2.0, 1.0, "0/7"), {}, "there is no '0/7'"),
        (lambda: SigmaSchedule(lambda epoch: -1.0), {}, "<lambda> returned -1.0 as sigma of epoch 1"),
    ],
)
def test_what_makes_no_sense_is_refused(make, more, message):
    with pytest.raises(MinetError, match=message):
        run(make(), **more).fit()
