import pytest

from benchmarks import elementwise
from minet.layers import PReLU


def test_a_line_for_each_direction(monkeypatch, capsys):
    monkeypatch.setattr(elementwise, "SHAPE", (2, 3, 4))
    monkeypatch.setattr(elementwise, "TURNS", 1)
    assert elementwise.main() == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["fprop", "bprop"]


def test_what_computes_something_else_is_not_timed(monkeypatch):
    monkeypatch.setattr(elementwise, "SHAPE", (2, 3, 4))
    with pytest.raises(AssertionError):
        elementwise.milliseconds([PReLU(), PReLU(init=0.5)])
