"""Where a user's files are: as they are named, or in the data folder."""

from __future__ import annotations

import os
from pathlib import Path

from minet.core.naming import relative
from minet.data.errors import DataError


def located(path: str | os.PathLike[str], *endings: str) -> Path:
    """A file or folder by the name that it was given, or by that name with one of the endings.

    What is not found from the current folder is looked for in the one that ``MINET_DATA`` or ``--data-dir``
    names.

    Raises
    ------
    DataError
        If there is none.
    """
    try:
        given = Path(path).expanduser()
    except (TypeError, RuntimeError):
        raise DataError(f"{path!r:.60} is not the name of a file or folder") from None
    named = os.environ.get("MINET_DATA")
    places = [given, *([Path(named).expanduser() / given] if named else [])]
    for place in dict.fromkeys(places):
        for end in ("", *endings):
            if os.path.exists(
                found := f"{place}{end}"
            ):  # not Path.exists, which fails for names that are too long
                return Path(found)
    also = f", nor in {named}" if named and not given.is_absolute() else ""
    raise DataError(
        f"{relative(given)}: no such file or folder{also}",
        "a name counts from the current folder, or from --data-dir",
    )
