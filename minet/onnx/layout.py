"""Calls and lists as lines of Python: on one line if they fit, else a line for each part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, Union

WIDTH = 100
Part: TypeAlias = Union["Text", str]


@dataclass
class Text:
    """Parts between what opens and what closes them; with `open` each always has its own line."""

    before: str
    parts: list[Part]
    after: str = ""
    open: bool = False

    def line(self) -> str:
        """All of it on one line."""
        return self.before + ", ".join(_line(part) for part in self.parts) + self.after


def _line(part: Part) -> str:
    return part if isinstance(part, str) else part.line()


def laid_out(text: Part, indent: int = 0, end: str = "") -> str:
    """The text as lines, with their ends."""
    margin = " " * indent
    short = margin + _line(text) + end
    if isinstance(text, str) or (len(short) <= WIDTH and not text.open):
        return short + "\n"
    before, after = (text.before, text.after) if text.after else (f"{text.before}(", ")")
    inner = "".join(laid_out(part, indent + 4, ",") for part in text.parts)
    return f"{margin}{before}\n{inner}{margin}{after}{end}\n"
