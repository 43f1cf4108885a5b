"""DataError, in a module of its own, so that all of minet.data can import it."""

from __future__ import annotations

from minet.core.errors import MinetError


class DataError(MinetError):
    """A data set, or one of its files, that cannot be used: missing, damaged or inconsistent."""
