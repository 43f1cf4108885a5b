"""EMA: the average by its formula, tested and kept beside the parameters, which it does not change."""

import numpy as np
import pytest
from small import TOY, Interrupted, everything, trainer

from minet import MinetError, Net
from minet.train import modelfile
from minet.train.callback import Callback
from minet.train.callbacks import EMA, WEIGHTS, Checkpointer
from minet.train.trainer import evaluate


class Values(Callback):
    """Everything that the net has learned after each step."""

    reads_net = True

    def __init__(self):
        self.seen = []

    def on_start(self, trainer):
        self.on_batch(trainer, 0.0)

    def on_batch(self, trainer, loss):
        net = trainer.net
        self.seen.append({name: np.array(value) for name, value in {**net.params, **net.persistent}.items()})


@pytest.mark.parametrize("late", [False, True])
def test_it_averages_parameters_and_running_statistics(late):
    values, ema = Values(), EMA(0.8)
    run = trainer(values, ema, epochs=4, late=late)
    run.fit()
    expected = {name: value.astype(float) for name, value in values.seen[0].items()}
    for n, seen in enumerate(values.seen[1:], 1):
        d = min(0.8, n / (n + 9))
        expected = {name: d * expected[name] + (1 - d) * seen[name] for name in expected}
    assert ema.arrays.keys() == expected.keys() and len(values.seen) == 13
    for name, value in expected.items():
        np.testing.assert_allclose(ema.arrays[name], value, rtol=1e-5, atol=1e-6)


def test_training_is_as_without_it():
    plain, averaged = trainer(), trainer(EMA())
    plain.fit()
    averaged.fit()
    assert everything(averaged) == everything(plain)


def test_the_average_is_tested_and_kept(tmp_path):
    run = trainer(EMA(0.9), epochs=5, folder=tmp_path, limit=320)
    record = run.fit().history[-1]
    model = modelfile.load(TOY, epochs=5)
    net = Net(model.net(), model.input_shape, model.batch, model.loss)
    net.load(tmp_path / "ema.safetensors")
    assert evaluate(net, run.test)[1] == {"accuracy": record["ema_accuracy"]}
    assert record["ema_accuracy"] != record["accuracy"]
    assert evaluate(run.net, run.test)[1] == {"accuracy": record["accuracy"]}


def test_a_resumed_run_has_the_same_average(tmp_path):
    whole, part = EMA(0.9), EMA(0.9)
    trainer(whole).fit()
    with pytest.raises(KeyboardInterrupt):
        trainer(EMA(0.9), Interrupted(5), Checkpointer(tmp_path)).fit()
    run = trainer(part)
    run.resume(tmp_path / WEIGHTS)
    run.fit()
    assert part.count == whole.count == 9
    assert all(part.arrays[name].tobytes() == whole.arrays[name].tobytes() for name in whole.arrays)


def test_an_average_that_does_not_fit_is_refused():
    ema = EMA()
    ema.load_state({"count": 3, "0/linear.w": np.zeros(3, np.float32)})
    with pytest.raises(MinetError, match=r"the average of 0/linear.w \(3,\) does not fit the net"):
        trainer(ema).fit()


@pytest.mark.parametrize("decay", [0, 1, -0.5, None, "0.9"])
def test_a_decay_that_makes_no_sense_is_refused(decay):
    with pytest.raises(MinetError, match="decay must be a number between 0 and 1"):
        EMA(decay)


def test_a_second_fit_goes_on_with_the_average():
    values, ema = Values(), EMA(0.8)
    run = trainer(values, ema, epochs=2)
    run.fit()
    before = {name: np.array(value) for name, value in ema.arrays.items()}
    run.epochs = 2
    run.fit()  # takes no step
    for name, value in before.items():
        np.testing.assert_array_equal(ema.arrays[name], value)
