"""What tests of data share."""

import io
from types import SimpleNamespace

import pytest

from minet.data import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal as standard error, which keeps what is written to it."""
    screen = Terminal()
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        progress, "sys", SimpleNamespace(stderr=screen)
    )  # pytest puts back its own sys.stderr
    return screen
