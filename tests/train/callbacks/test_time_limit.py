"""TimeLimit: ends a run with the step under way, saved."""

import pytest
from small import Clock, everything, trainer

from minet import MinetError
from minet.train.callback import Callback
from minet.train.callbacks import WEIGHTS, Checkpointer, TimeLimit


class Tick(Callback):
    """A step takes a minute."""

    def __init__(self, clock):
        self.clock = clock

    def on_batch(self, trainer, loss):
        self.clock.now += 60


def limited(tmp_path, limit):
    clock = Clock()
    return trainer(Tick(clock), TimeLimit(limit, clock), Checkpointer(tmp_path), epochs=3)


def test_runs_that_go_on_after_their_limit_end_like_one(tmp_path):
    whole = trainer(epochs=3)
    whole.fit()
    stops = []
    for _ in range(3):
        run = limited(tmp_path, "4m")
        if stops:
            run.resume(tmp_path / WEIGHTS)
        result = run.fit()
        stops.append((run.steps, result.stopped))
    assert stops == [(4, "the time limit of 4m is over"), (8, "the time limit of 4m is over"), (9, "")]
    assert everything(run) == everything(whole)


def test_a_run_that_ends_within_its_first_epoch_has_a_result_without_a_history(tmp_path):
    result = limited(tmp_path, 90).fit()
    assert (result.history, result.stopped) == ([], "the time limit of 90 s is over")
    assert result._repr_svg_() is None
    with pytest.raises(MinetError, match="completed no epoch\n  hint: the time limit of 90 s is over"):
        assert result.accuracy


@pytest.mark.parametrize("limit", ["", "5", "-1s", 0, -3, None, True, "0s", float("inf")])
def test_what_is_no_time_is_refused(limit):
    with pytest.raises(MinetError, match="is no time limit\n  hint: "):
        TimeLimit(limit)
