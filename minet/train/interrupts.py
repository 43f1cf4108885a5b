"""Ctrl-C, SIGTERM and SIGHUP: the step under way is finished and saved before the training run ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

# SIGTERM is how systems end what takes too long, SIGHUP how a terminal says that it closes.
ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
SIGNALS = (signal.SIGINT, *ENDS)


@contextlib.contextmanager
def finishing_steps(trainer: Any) -> Iterator[None]:
    """Within this context, an interruption ends the run as soon as it can be saved; a second one, at once.

    Signals that this process ignores, or that the program or something else handles, stay as they are.
    """

    def interrupted(number: int, frame: Any) -> None:
        if trainer.interrupted or not trainer.stepping:
            raise KeyboardInterrupt
        trainer.interrupt()

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is signal.default_int_handler:
                before[number] = signal.signal(number, interrupted)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
