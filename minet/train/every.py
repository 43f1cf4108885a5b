"""Every so many seconds or steps: the setting ``60s``, ``5m``, ``1h`` or ``500``."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from minet.core.errors import MinetError
from minet.core.settings import is_whole

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
TIME = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?([smh])")


def seconds_of(text: str) -> float | None:
    """The seconds that ``90s``, ``1.5m`` or ``2h`` are; None if it is no such time."""
    found = TIME.fullmatch(text.strip())
    return float(found[1]) * UNITS[found[2]] if found else None


class Every:
    """Tells when something is due that is to be done every so many seconds or steps.

    Parameters
    ----------
    setting : str, int or None
        A time, such as ``"60s"``, ``"5m"`` or ``"1h"``; a number of steps, such as 500 or ``"500"``; None or
        0 for never.
    clock : callable
        Returns seconds.

    Raises
    ------
    MinetError
        If it is none of these.
    """

    def __init__(self, setting: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.seconds, self.steps = clock, 0.0, 0
        text = str(setting).strip()
        if (seconds := seconds_of(text)) is not None:
            self.seconds = seconds
        elif text.isascii() and text.isdigit() and (isinstance(setting, str) or is_whole(setting)):
            self.steps = int(text)
        elif setting is not None:
            raise MinetError(f"{setting!r} is neither a time nor a number of steps", "60s, 5m, 1h or 500")
        self.reset()

    def reset(self) -> None:
        """Begin to count."""
        self.since, self.taken = self.clock(), 0

    def step(self) -> bool:
        """Count a step; return whether it is due."""
        self.taken += 1
        if self.seconds:
            return self.clock() - self.since >= self.seconds
        return bool(self.steps) and self.taken >= self.steps
