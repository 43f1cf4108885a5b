"""Ctrl-C, SIGTERM, SIGHUP: the step under way is finished and saved, and a resumed run has the same bits."""

import signal
import threading

import pytest
from small import everything, trainer

from minet.train import checkpoint
from minet.train import trainer as trainer_module
from minet.train.callback import Callback
from minet.train.callbacks import WEIGHTS, Checkpointer
from minet.train.interrupts import finishing_steps

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handled():
    """SIGTERM and SIGHUP as the command line has them."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS[1:]}
    yield
    for number, handler in before.items():
        assert signal.signal(number, handler) is signal.default_int_handler


class Signals(Callback):
    """Sends a signal so often in a hook of a step or an epoch."""

    def __init__(self, number, hook, at, times=1):
        self.number, self.at, self.times = number, at, times
        setattr(self, hook, self.send)

    def send(self, trainer, *_):
        if trainer.steps == self.at:
            for _ in range(self.times):
                signal.raise_signal(self.number)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("hook", "at"), [("on_batch", 2), ("on_batch", 3), ("on_epoch", 6), ("on_epoch_begin", 3)]
)
@pytest.mark.parametrize("late", [False, True])
def test_the_step_is_finished_and_saved(tmp_path, number, hook, at, late):
    whole = trainer()
    whole.fit()
    run = trainer(Signals(number, hook, at), Checkpointer(tmp_path), late=late)
    with pytest.raises(KeyboardInterrupt), finishing_steps(run):
        run.fit()
    assert run.net.clock.step >= at + (hook == "on_epoch_begin")
    run = trainer()
    run.resume(tmp_path / WEIGHTS)
    assert run.steps == run.net.clock.step >= at
    run.fit()
    assert everything(run) == everything(whole)


def test_a_second_one_ends_the_run_at_once(tmp_path):
    run = trainer(Signals(signal.SIGINT, "on_batch", 2, times=2), Checkpointer(tmp_path))
    with pytest.raises(KeyboardInterrupt), finishing_steps(run):
        run.fit()
    assert not (tmp_path / WEIGHTS).exists()


def test_a_test_ends_at_once_and_is_left_to_do(tmp_path, monkeypatch):
    evaluate = trainer_module.evaluate
    whole = trainer(epochs=2)
    whole.fit()

    def stopped(net, data, ranks):
        if net.clock.step == 6:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("not reached")
        return evaluate(net, data, ranks)

    monkeypatch.setattr(trainer_module, "evaluate", stopped)
    run = trainer(Checkpointer(tmp_path), epochs=2)
    with pytest.raises(KeyboardInterrupt), finishing_steps(run):
        run.fit()
    monkeypatch.setattr(trainer_module, "evaluate", evaluate)
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["untested"]["epoch"] == 2
    run = trainer(epochs=2)
    run.resume(tmp_path / WEIGHTS)
    (record,) = run.fit().history
    assert record["epoch"] == 2 and record["test_loss"] == whole.history[1]["test_loss"]
    assert everything(run) == everything(whole)


def test_before_the_first_step_it_ends_at_once(tmp_path):
    run = trainer(Signals(signal.SIGINT, "on_start", 0), Checkpointer(tmp_path))
    with pytest.raises(KeyboardInterrupt), finishing_steps(run):
        run.fit()
    assert run.net.clock.step == 0


def test_fit_itself_counts_the_step_and_goes_on_there(monkeypatch):
    whole, run = trainer(), trainer()
    whole.fit()
    start = run.net.start_step

    def interrupted(*given):
        step = start(*given)
        if run.net.clock.step == 2:
            signal.raise_signal(signal.SIGINT)  # after the update, before the trainer counts it
        return step

    monkeypatch.setattr(run.net, "start_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert run.steps == run.net.clock.step == 2
    run.fit()
    assert everything(run) == everything(whole)


def test_a_signal_that_the_program_handles_is_left_to_it():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(True))
    try:
        assert len(trainer(Signals(signal.SIGINT, "on_batch", 2)).fit().history) == 3
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [True]


def test_signals_that_are_ignored_stay_so_and_other_threads_install_nothing():
    run = trainer(epochs=1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with finishing_steps(run):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    seen = []

    def enter():
        with finishing_steps(run):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
