"""The setting of what is done every so many seconds or steps."""

import pytest
from small import Clock

from minet import MinetError
from minet.train.every import Every, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("1.5m", 90), ("2h", 7200), (".5 s", 0.5), ("60", None), ("s", None)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("setting", [3, "3", " 3 "])
def test_steps_are_counted_from_the_last_reset(setting):
    every = Every(setting)
    assert [every.step() for _ in range(4)] == [False, False, True, True]
    every.reset()
    assert [every.step() for _ in range(3)] == [False, False, True]


def test_seconds_are_those_since_the_last_reset():
    clock = Clock()
    every = Every("1m", clock)
    for now, due in ((0, False), (59.9, False), (60, True), (70, True)):
        clock.now = now
        assert every.step() == due
    every.reset()
    clock.now = 129
    assert not every.step()


@pytest.mark.parametrize("setting", [None, 0, "0", "0s"])
def test_never(setting):
    assert not any(Every(setting).step() for _ in range(1000))


@pytest.mark.parametrize("setting", ["", "5x", "-3", -3, "1e3", 2.5, "s", True, "60 s s"])
def test_what_is_neither_is_refused(setting):
    with pytest.raises(MinetError, match="is neither a time nor a number of steps\n  hint: 60s, 5m, 1h or 5"):
        Every(setting)
