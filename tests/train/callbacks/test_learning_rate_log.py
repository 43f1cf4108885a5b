"""LearningRateLog: the rate of each step, wherever its loss comes from and wherever a run goes on."""

import json

import pytest
from small import Interrupted, trainer

from minet import MinetError
from minet.train.callbacks import WEIGHTS, Checkpointer, LearningRateLog
from minet.train.optim.schedules import Step


@pytest.mark.parametrize("late", [False, True])
def test_it_has_the_rate_of_each_step(late):
    log = LearningRateLog()
    run = trainer(log, epochs=2, late=late)
    run.solver.schedule = Step({1: 0.1})
    run.fit()
    assert [record["rate"] for record in log.records] == pytest.approx([0.05] * 3 + [0.005] * 3)
    assert [record["step"] for record in log.records] == [1, 2, 3, 4, 5, 6]
    assert [record["epoch"] for record in log.records] == [0, 0.333333, 0.666667, 1, 1.333333, 1.666667]


def test_it_logs_the_first_of_so_many_steps():
    log = LearningRateLog(4)
    trainer(log, epochs=3).fit()
    assert [record["step"] for record in log.records] == [1, 5, 9]
    with pytest.raises(MinetError, match="every must be"):
        LearningRateLog(0)


def test_a_resumed_run_ends_with_the_same_file(tmp_path):
    for name, stop in (("whole", None), ("part", 5)):
        folder = tmp_path / name
        folder.mkdir()
        more = [] if stop is None else [Interrupted(stop)]
        run = trainer(LearningRateLog(), *more, Checkpointer(folder), folder=folder)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                run.fit()
            with (folder / "rates.jsonl").open("a") as file:
                file.write(json.dumps({"step": 6, "rate": 7}) + '\n{"step": 7, "ra')
            run = trainer(LearningRateLog(), Checkpointer(folder), folder=folder)
            run.resume(folder / WEIGHTS)
        run.fit()
    assert (tmp_path / "part/rates.jsonl").read_text() == (tmp_path / "whole/rates.jsonl").read_text()
    assert (tmp_path / "whole/rates.jsonl").read_text().count("\n") == 9
