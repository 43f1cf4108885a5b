"""The error of this room, below all that raises it."""

from __future__ import annotations

from minet.core.errors import MinetError


class DataError(MinetError):
    """A data set, or one of its files, that cannot be used: missing, damaged or inconsistent."""
