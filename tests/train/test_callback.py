"""Callbacks: which are refused, whose run their state is of, and what they may add to a record."""

import io

import numpy as np
import pytest
from rich.console import Console
from small import trainer

from minet import MinetError
from minet.train.callback import check_callbacks
from minet.train.callbacks import WEIGHTS, Callback, Checkpointer, EarlyStopping, JsonLog, Progress


class Count(Callback):
    def __init__(self):
        self.epochs = 0

    def on_epoch(self, trainer, record):
        self.epochs += 1

    def state(self):
        return {"epochs": self.epochs}

    def load_state(self, state):
        self.epochs = state["epochs"]


def made(**members):
    return type("Mine", (Callback,), members)()


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_validation"])
def test_a_hook_that_is_none_is_refused(hook):
    with pytest.raises(
        MinetError, match=rf"Mine\.{hook} is no hook: a run never calls it\n  hint: the hooks are "
    ):
        trainer(made(**{hook: lambda *_: None}))
    trainer(made(on_what=True, _on_it=print))


@pytest.mark.parametrize(
    ("hook", "own", "message"),
    [
        ("on_batch", lambda self, trainer: 0, r"\(trainer\) is called with \(trainer, loss\)"),
        ("on_epoch", lambda self, trainer, epoch, logs: 0, r".* is called with \(trainer, record\)"),
        ("on_start", lambda: 0, r".* is called with \(trainer\)"),
        ("load_state", lambda self: 0, r"\(\) is called with \(state\)"),
    ],
)
def test_a_hook_that_takes_something_else_is_refused(hook, own, message):
    with pytest.raises(MinetError, match=rf"Mine\.{hook}{message}\n  hint: def {hook}\(self"):
        trainer(made(**{hook: own}))
    trainer(made(**{hook: lambda self, *given: 0}), made(on_batch=lambda self, run, loss, more=1: 0))


@pytest.mark.parametrize("given", [EarlyStopping(), print, None])
def test_callbacks_that_are_no_list_are_refused(given):
    with pytest.raises(MinetError, match=r"callbacks must be a list, got .*\n.*callbacks=\[EarlyStopping"):
        check_callbacks(given)


class Own(Checkpointer):
    """One of a user's."""


@pytest.mark.parametrize("kind", [Checkpointer, Own])
def test_a_state_after_the_checkpointer_is_refused(kind, tmp_path):
    with pytest.raises(MinetError, match=r"Count comes after the Checkpointer.*\n.*Count\(\.\.\.\), Checkp"):
        trainer(kind(tmp_path), Count())
    trainer(Count(), kind(tmp_path), made(state=lambda self: {}), made(on_epoch=print))


def test_a_state_is_of_one_run_unless_it_is_resumed(tmp_path):
    count, plain = Count(), Callback()
    first = trainer(count, plain, Checkpointer(tmp_path), epochs=1)
    first.fit()
    first.epochs = 2
    first.fit()
    with pytest.raises(
        MinetError, match=r"Count has been in another trainer's run.*\n  hint: make a new one"
    ):
        trainer(count, plain).fit()
    again = trainer(count, plain, epochs=3)
    again.resume(tmp_path / WEIGHTS)
    again.fit()
    assert count.epochs == 3
    stopping = EarlyStopping(1, metric="epoch", larger=False)
    assert len(trainer(stopping).fit().history) == 2
    with pytest.raises(MinetError, match="EarlyStopping has been in another"):
        trainer(stopping).fit()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, r"Mine\.state\(\) returned nothing \(None\), not a dict\n  hint: is the return"),
        ((1, 2), r"Mine\.state\(\) returned \(1, 2\) of type tuple, not a dict"),
        ({"a": np.array([None])}, "which a checkpoint cannot keep as it is"),
        ({3: np.zeros(2)}, "which a checkpoint cannot keep as it is"),
        ({"a": (1, 2)}, r"returned \{'a': \(1, 2\)\}, which a checkpoint cannot keep as it is"),
    ],
)
def test_a_state_that_no_checkpoint_can_hold_is_refused(tmp_path, state, message):
    with pytest.raises(MinetError, match=message):
        trainer(made(state=lambda self: state)).save(tmp_path / WEIGHTS)


def adds(value):
    return made(on_epoch=lambda self, trainer, record: record.update(note=value))


@pytest.mark.parametrize("value", ["hi", None, np.ones(3), np.str_("hi")])
def test_what_is_added_to_a_record_that_is_shown_must_be_a_number(tmp_path, value):
    shown = Progress(Console(file=io.StringIO()))
    with pytest.raises(MinetError, match=r"Mine\.on_epoch added note=.* to the epoch's record\n  hint: add"):
        trainer(adds(value), shown, epochs=1).fit()
    trainer(adds(np.float32(1)), adds(np.bool_(True)), adds(1), shown, epochs=1).fit()
    assert trainer(adds(value), epochs=1).fit().history[0]["note"] is value  # nobody shows it


def test_a_log_holds_what_json_can(tmp_path):
    trainer(adds("hi"), JsonLog(tmp_path / "log.jsonl"), epochs=1).fit()
    assert '"note": "hi"' in (tmp_path / "log.jsonl").read_text()
    with pytest.raises(MinetError, match=r"log\.jsonl: a callback has added .* what JSON cannot hold"):
        trainer(adds(np.ones(3)), JsonLog(tmp_path / "log.jsonl"), epochs=1).fit()
