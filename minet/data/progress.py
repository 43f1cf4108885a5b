"""How far a long read is: a bar on standard error, if that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

IMAGES, BYTES = 200, 1 << 25  # from so many on, a read is long


def _nothing(count: int) -> None:
    """Count what nobody watches."""


@contextlib.contextmanager
def reading(what: str, total: int, least: int) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs, from `least` things on; the function is told how many more are read.

    Parameters
    ----------
    what : str
        What is read, such as a file's name.
    total, least : int
    """
    if total < least or not (sys.stderr and sys.stderr.isatty()):
        yield _nothing
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("  reading {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(escape(what), total=total)
        yield lambda count: bar.advance(task, count)
