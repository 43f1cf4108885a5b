"""Logs by step: JSON lines that grow during a run, and that end the same if it was stopped and resumed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from minet.core.files import FileError, write_whole


class LineLog:
    """A file of JSON objects, each with its ``step``, one a line.

    Lines are appended, so that a log of many steps stays cheap. A process that is killed leaves at most its
    last line incomplete; `begin` removes it, and the lines of steps that a resumed run takes again.

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def begin(self, step: int) -> None:
        """Keep the lines of the first steps, up to this one; for a new run, step 0, none."""
        if self.path.exists():
            lines = [f"{json.dumps(record)}\n" for record in self.read() if step and record["step"] <= step]
            write_whole(self.path, "".join(lines).encode())

    def add(self, record: dict[str, Any]) -> None:
        """Append a line."""
        try:
            with self.path.open("a") as file:
                file.write(f"{json.dumps(record)}\n")
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def read(self) -> list[dict[str, Any]]:
        """The records, up to the first line that is damaged."""
        records: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            for line in self.path.read_text().splitlines():
                record = json.loads(line)
                if type(record["step"]) is not int:
                    break
                records.append(record)
        return records
