"""EarlyStopping: ends a run that no longer becomes better, and does not begin it again."""

import pytest
from small import Interrupted, trainer

from minet import MinetError
from minet.train import checkpoint
from minet.train.callback import Callback
from minet.train.callbacks import WEIGHTS, Checkpointer, EarlyStopping


class Told(Callback):
    """Puts these numbers into the records."""

    def __init__(self, **numbers):
        self.numbers = {name: list(values) for name, values in numbers.items()}

    def on_epoch(self, trainer, record):
        for name, values in self.numbers.items():
            record[name] = values[record["epoch"] - 1]


@pytest.mark.parametrize(
    ("values", "more", "epochs"),
    [
        ([0.1, 0.3, 0.2, 0.2, 0.4], {"patience": 2}, 4),
        ([0.1, 0.3, 0.2, 0.4, 0.1], {"patience": 2}, 5),
        ([0.1, 0.15, 0.19, 0.3, 0.3], {"patience": 2, "least": 0.1}, 3),
        ([0.1, 0.15, 0.3, 0.3, 0.3], {"patience": 2, "least": 0.1}, 5),
        ([0.5, 0.4, 0.3, 0.2, 0.1], {"patience": 1, "larger": False}, 5),
        ([0.5, float("nan"), 0.6, 0.6, 0.6], {"patience": 2}, 5),
        ([float("nan"), 0.1, 0.1, 0.1, 0.1], {"patience": 2}, 4),
    ],
)
def test_it_waits_for_a_better_epoch(values, more, epochs):
    stopping = EarlyStopping(metric="accuracy", **more)
    result = trainer(Told(accuracy=values), stopping, epochs=5).fit()
    assert len(result.history) == epochs
    assert bool(result.stopped) == (stopping.waited >= stopping.patience)


def test_it_says_why():
    result = trainer(Told(test_loss=[0.5, 0.6, 0.7]), EarlyStopping(2, "test_loss"), epochs=9).fit()
    assert result.stopped == "of the last 2 epochs none was better than test loss 0.5 of epoch 1"


@pytest.mark.parametrize(("tested", "name"), [(True, "accuracy"), (False, "loss")])
def test_by_default_it_watches_what_there_is(tested, name):
    stopping = EarlyStopping()
    run = trainer(stopping, epochs=1)
    run.test = run.test if tested else None
    run.fit()
    assert stopping.name == name and stopping.best == run.history[0][name]


def test_a_metric_that_no_record_has_is_named():
    with pytest.raises(
        MinetError, match="an epoch's record has no 'acuracy'\n  hint: it has epoch, step, loss"
    ):
        trainer(EarlyStopping(metric="acuracy"), epochs=1).fit()


@pytest.mark.parametrize("more", [{"patience": 0}, {"patience": "3"}, {"least": -1}, {"least": None}])
def test_settings_that_make_no_sense_are_refused(more):
    with pytest.raises(MinetError, match="must be a"):
        EarlyStopping(**more)


def test_a_resumed_run_stops_where_it_would_have_stopped(tmp_path):
    told = [0.5, 0.4, 0.3, 0.2, 0.1]
    make = lambda *more: trainer(  # noqa: E731
        Told(accuracy=told), EarlyStopping(3, "accuracy"), *more, Checkpointer(tmp_path), epochs=5
    )
    with pytest.raises(KeyboardInterrupt):
        make(Interrupted(8)).fit()  # in epoch 3
    run = make()
    run.resume(tmp_path / WEIGHTS)
    assert run.callbacks[1].state() == {"best": 0.5, "epoch": 1, "waited": 1, "name": "accuracy"}
    assert [record["epoch"] for record in run.fit().history] == [3, 4]
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["epoch"] == 4
    run = make()
    run.resume(tmp_path / WEIGHTS)
    assert not run.fit().history and run.net.clock.step == 12
