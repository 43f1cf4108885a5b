"""How a kernel is run: in which order, under which checks. A test's marker may say it for all its kernels."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from minet.backends import emulator
from minet.core.errors import MinetError

ALLOWED = ("same_value_writes", "discarded_reads")


@dataclass(frozen=True)
class Settings:
    """How a kernel is run: `minet.emulator.RawKernel.check` has their meanings. None: as the test says."""

    order: str | None = None
    sanitize: bool | None = None
    allow: tuple[str, ...] | None = None
    most_branches: int | None = None
    watch: bool | None = None

    def __or__(self, other: Settings) -> Settings:
        """These, and what they leave open as in others."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Settings(**{k: getattr(other, k) if v is None else v for k, v in values.items()})


USUAL = Settings("forward", False, (), emulator.MOST_STEPS, True)
_of_test = [Settings()]


@contextmanager
def under(settings: Settings) -> Iterator[None]:
    """Run kernels so where they do not say otherwise themselves."""
    _of_test.append(settings)
    try:
        yield
    finally:
        _of_test.pop()


def current() -> Settings:
    """How kernels are run that do not say."""
    return _of_test[-1] | USUAL


def checked(
    order: str | None = None, sanitize: bool | None = None, allow: str | Sequence[str] | None = None,
    most_branches: int | None = None, watch: bool | None = None,
) -> Settings:  # fmt: skip
    """Settings of these values.

    Raises
    ------
    MinetError
        If one is none that it may be.
    """
    if order is not None and order not in emulator.ORDERS:
        raise MinetError(f"order must be one of {', '.join(emulator.ORDERS)}, got {order!r}")
    given = None if allow is None else (allow,) if isinstance(allow, str) else tuple(allow)
    if unknown := [one for one in given or () if one not in ALLOWED]:
        raise MinetError(f"allow takes {' and '.join(ALLOWED)}, got {unknown[0]!r}")
    most = None if most_branches is None else whole(most_branches, "most_branches")
    return Settings(order, sanitize, given, most, watch)


def whole(value: Any, what: str) -> int:
    """A whole number, or an error that says what must be one."""
    try:
        return operator.index(value)
    except TypeError:
        raise MinetError(f"{what} must be whole numbers, got {value!r}") from None
