"""Statistics: what they say, worked out by hand; they change nothing."""

import json

import numpy as np
import pytest
from small import Interrupted, everything, trainer

from minet import MinetError
from minet.core.containers import Sequential
from minet.core.loss import SoftmaxCrossEntropy
from minet.core.net import Net
from minet.layers import Linear, ReLU
from minet.train.callbacks import WEIGHTS, Checkpointer, Statistics
from minet.train.callbacks.statistics import statistics
from minet.train.optim import SGD


def test_the_numbers_of_a_small_net():
    rng = np.random.default_rng(0)
    net = Net(Sequential(Linear(4), ReLU(), Linear(3)), (1, 2, 2), 8, SoftmaxCrossEntropy())
    x, labels = rng.standard_normal((1, 2, 2, 8)).astype("float32"), np.arange(8) % 3
    net.train_step(x, labels, SGD(0.1))
    told = statistics(net)
    w, b = net.params["0/linear.w"].astype(float), net.params["0/linear.b"].astype(float)
    y = np.maximum(w.reshape(4, 4) @ x.reshape(4, 8) + b[:, None], 0)
    assert list(told) == ["0/linear", "1/relu", "2/linear"]
    found = told["1/relu"]["output"]
    assert found["mean"] == pytest.approx(y.mean(), rel=1e-5)
    assert found["std"] == pytest.approx(y.std(), rel=1e-5)
    assert found["zero"] == pytest.approx((y == 0).mean()) and found["zero"] > 0
    for name in ("w", "b"):
        value, gradient = net.params[f"2/linear.{name}"], net.grads[f"2/linear.{name}"]
        rms = [float(np.sqrt(np.mean(a.astype(float) ** 2))) for a in (value, gradient)]
        assert list(told["2/linear"]["parameters"][name].values()) == pytest.approx(rms, rel=1e-5)


def test_they_change_nothing_and_come_once_an_epoch_or_every_so_many_steps():
    plain = trainer()
    plain.fit()
    for every, steps in ((None, [3, 6, 9]), (2, [2, 4, 6, 8])):
        told = Statistics(every)
        run = trainer(told)
        run.callbacks = [told]
        run.fit()
        assert [record["step"] for record in told.records] == steps
        assert everything(run) == everything(plain)
    assert [record["epoch"] for record in told.records] == [0.666667, 1.333333, 2, 2.666667]


def test_a_resumed_run_ends_with_the_same_file(tmp_path):
    for name in ("whole", "part"):
        folder = tmp_path / name
        folder.mkdir()
        run = trainer(
            Statistics(2), Interrupted(5 if name == "part" else 99), Checkpointer(folder), folder=folder
        )
        if name == "part":
            with pytest.raises(KeyboardInterrupt):
                run.fit()
            run = trainer(Statistics(2), folder=folder)
            run.resume(folder / WEIGHTS)
        run.fit()
    whole, part = ((tmp_path / name / "statistics.jsonl").read_text() for name in ("whole", "part"))
    assert part == whole and [json.loads(line)["step"] for line in whole.splitlines()] == [2, 4, 6, 8]


def test_a_setting_that_makes_no_sense_is_refused():
    with pytest.raises(MinetError, match="every must be a whole number of at least 1, got 0"):
        Statistics(0)
