"""The root of every error that minet raises on purpose."""

from __future__ import annotations


class MinetError(Exception):
    """A mistake in what minet was given, reported in one message.

    Parameters
    ----------
    message : str
        What is wrong, with the names, shapes and values that show it.
    hint : str
        How to fix it; printed on its own line.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message + (f"\n  hint: {self.hint}" if self.hint else "")
