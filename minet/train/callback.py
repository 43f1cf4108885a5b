"""What a training run calls, and what it gives: callbacks and the result."""

from __future__ import annotations

import inspect
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.train.function_settings import hint_for, kind_of

EVENTS = ("on_start", "on_epoch_begin", "on_batch", "on_pause", "on_epoch", "on_end", "on_error")


@dataclass
class Result:
    """The result of a training run.

    Attributes
    ----------
    history : list of dict
        One per epoch: epoch (from 1), step, loss (mean over the epoch's steps), rate, seconds and
        images_per_second (of the steps, without the test). With a test set also test_loss and the loss's
        metrics, such as accuracy (0 to 1).
    seconds : float
        Total duration of `fit`.
    stopped : str
        Why a callback ended the run before its last epoch; empty if none did.
    """

    history: list[dict[str, Any]]
    seconds: float
    stopped: str = ""

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch; an error if the loss does not measure it, or without a test."""
        if not self.history:
            raise MinetError("this run has completed no epoch", self.stopped)
        last = self.history[-1]
        if "accuracy" not in last:
            raise MinetError("this run measured no accuracy", f"history[-1] has {', '.join(last)}")
        return float(last["accuracy"])

    def _repr_svg_(self) -> str | None:
        """The curves, in a notebook."""
        from minet.train import plots  # here, as it is slow to import

        return plots.as_svg(plots.curves(self.history)) if self.history else None


class Callback:
    """Hooks into a training run; override the ones you need. An error raised in a hook ends the run.

    Callbacks are called in the order in which the trainer has them.

    Attributes
    ----------
    reads_net : bool
        Whether `on_batch` reads the net's arrays or the solver. On a GPU a step is otherwise called back when
        the next one has been started.
    shows_record : bool
        Whether it shows or logs what is in the epochs' records, which then must be numbers.
    saves_states : bool
        Whether it saves the state of all callbacks; those that have one come before it.
    """

    reads_net: bool = False
    shows_record: bool = False
    saves_states: bool = False

    def on_start(self, trainer: Any) -> None:
        """Called before the first epoch of this `fit`, also if it goes on with a run."""

    def on_epoch_begin(self, trainer: Any) -> None:
        """Called before the first step of each epoch; not if a run goes on within an epoch."""

    def on_batch(self, trainer: Any, loss: float) -> None:
        """Called after each step, with the batch's mean loss; ``trainer.within`` counts it already."""

    def on_pause(self, trainer: Any) -> None:
        """Called between two steps, or after the last one of an epoch, if `Trainer.pause` asked for it.

        No step is running: ``trainer.save(file)`` writes a checkpoint from which a run goes on exactly here.
        """

    def on_epoch(self, trainer: Any, record: dict[str, Any]) -> None:
        """Called after each epoch and its test, with the record added to ``trainer.history``.

        Numbers added to the record are shown and logged by callbacks that come later, such as `JsonLog`.
        """

    def on_end(self, trainer: Any, result: Result) -> None:
        """Called after the last epoch, or when `Trainer.stop` has ended the run."""

    def on_error(self, trainer: Any, error: BaseException) -> None:
        """Called when an error, or the user, ends the run; the error is raised again afterwards."""

    def state(self) -> dict[str, Any]:
        """What a resumed run needs of this callback, by name: what JSON can hold, and arrays.

        Checkpoints keep it. Those of an epoch are saved after the `on_epoch` of the callbacks that come
        before the `Checkpointer`. A callback that has one serves one trainer, or another that is resumed.
        """
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` has returned; called before `on_start`."""


def check_callbacks(callbacks: Iterable[Any]) -> list[Any]:
    """The callbacks as a list; raise MinetError unless each is one."""
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise MinetError(f"callbacks must be a list, got {kind_of(callbacks)}", "callbacks=[EarlyStopping()]")
    found = list(callbacks)
    for one in found:
        if isinstance(one, type):
            raise MinetError(f"{one.__name__} is a class, not a callback", f"{one.__name__}()")
        if not isinstance(one, Callback):
            raise MinetError(
                f"{one!r:.60} is not a callback", "derive it from minet.train.callbacks.Callback"
            )
        for hook in dir(type(one)):
            if hook.startswith("on_") and hook not in EVENTS and callable(getattr(type(one), hook)):
                hint = f"the hooks are {', '.join(EVENTS)}"
                raise MinetError(f"{type(one).__name__}.{hook} is no hook: a run never calls it", hint)
        for hook in (*EVENTS, "state", "load_state"):
            _check_takes(one, hook)
    kinds = [type(one) for one in found]
    for kind in itertools.dropwhile(lambda kind: not kind.saves_states, kinds):
        if kind.state is not Callback.state and kind.on_epoch is not Callback.on_epoch:
            raise MinetError(
                f"{kind.__name__} comes after the Checkpointer, which saves its state of the epoch before",
                f"callbacks=[..., {kind.__name__}(...), Checkpointer(...)]",
            )
    return found


def _check_takes(one: Callback, hook: str) -> None:
    """Raise MinetError unless a callback's hook can be called with what a run gives it."""
    own = getattr(one, hook)
    if getattr(own, "__func__", None) is getattr(Callback, hook):
        return
    wanted = list(inspect.signature(getattr(Callback, hook)).parameters)
    takes = "()"
    try:
        takes = str(found := inspect.signature(own))
        found.bind(*wanted[1:])
        return
    except TypeError:
        pass
    except ValueError:  # a function that does not say what it takes, or a method without even self
        if not inspect.ismethod(own):
            return
    what = f"{type(one).__name__}.{hook}{takes} is called with ({', '.join(wanted[1:])})"
    raise MinetError(what, f"def {hook}({', '.join(wanted)}):")


def claim(callbacks: Iterable[Callback], run: object, resumed: bool = False) -> None:
    """Note in callbacks that have a state of which run it is.

    Raises
    ------
    MinetError
        If that is another run, and the state has not been `resumed` from a checkpoint.
    """
    for one in callbacks:
        if type(one).state is Callback.state:
            continue
        if not resumed and getattr(one, "_run", run) is not run:
            name = type(one).__name__
            found = f"{name} has been in another trainer's run, and holds what it found there"
            raise MinetError(found, f"make a new one for each trainer: callbacks=[{name}(...)]")
        one._run = run  # type: ignore[attr-defined]


def call_on_epoch(callbacks: list[Callback], trainer: Any, record: dict[str, Any]) -> None:
    """Call `on_epoch` of each; raise MinetError if one adds to the record what later ones cannot show."""
    for i, one in enumerate(callbacks, 1):
        one.on_epoch(trainer, record)
        bad = [name for name, value in record.items() if not is_number(value)]
        if bad and any(later.shows_record for later in callbacks[i:]):
            raise MinetError(
                f"{type(one).__name__}.on_epoch added {bad[0]}={record[bad[0]]!r:.60} to the epoch's record",
                "add numbers alone; anything else goes to a file of its own",
            )


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of whatever library."""
    return isinstance(value, Real) or (getattr(value, "shape", None) == () and not isinstance(value, str))


def named(callbacks: Iterable[Callback]) -> Iterator[tuple[str, Callback]]:
    """Yield callbacks with the names by which checkpoints keep their state: that of their class."""
    count = Counter[str]()
    for one in callbacks:
        name = type(one).__name__
        count[name] += 1
        yield (f"{name}-{count[name]}" if count[name] > 1 else name), one


def states(callbacks: Iterable[Callback]) -> dict[str, dict[str, Any]]:
    """What callbacks have to keep in a checkpoint, by their names; those that keep nothing are left out."""
    kept = {name: one.state() for name, one in named(callbacks)}
    for name, state in kept.items():
        if not isinstance(state, dict):
            raise MinetError(
                f"{name}.state() returned {kind_of(state)}, not a dict", hint_for(state, "return {}")
            )
        plain = {key: value for key, value in state.items() if not is_array(value)}
        try:
            same = json.loads(json.dumps(plain)) == plain
        except (TypeError, ValueError):
            same = False
        strange = [k for k, v in state.items() if not isinstance(k, str) or getattr(v, "dtype", 0) == "O"]
        if not same or strange:
            shown = f"{state if strange else plain!r:.80}"
            found = f"{name}.state() returned {shown}, which a checkpoint cannot keep as it is"
            raise MinetError(found, "numbers, strings, lists, dicts by strings, None, and arrays")
    return {name: state for name, state in kept.items() if state}


def is_array(value: Any) -> bool:
    """Whether a value is an array, of whatever backend."""
    return hasattr(value, "shape") and not isinstance(value, np.generic)
