"""Ranks that would not train the same are told apart."""

import re

import pytest

from minet.parallel.agreement import disagreement

FACTS = {
    "minet": "1.0",
    "settings": {"lr": 0.1},
    "text": "x",
    "beside": {"mine.py": 1},
    "seed": 0,
    "content": ["aa", "bb"],
}


def test_ranks_that_agree():
    assert disagreement([FACTS, dict(FACTS), dict(FACTS)]) is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"minet": "1.1"}, "rank 2 .*: minet's version differs: '1.1' there, '1.0' in rank 0"),
        ({"settings": {"lr": 0.2}}, "rank 2 .*: lr differs: 0.2 there, 0.1 in rank 0"),
        ({"settings": {"lr": 0.1, "width": 3}}, "width differs: 3 there, 'its default' in rank 0"),
        ({"settings": {}}, "lr differs: 'its default' there, 0.1 in rank 0"),
        ({"text": "y"}, "the text of the model file differs$"),
        ({"beside": {"mine.py": 2}}, "mine.py differs: 2 there, 1 in rank 0"),
        ({"seed": 1}, "seed differs: 1 there, 0 in rank 0"),
        ({"content": ["aa", "cc"]}, "the checksum of images and labels differs"),
        ({"more": 1}, "more differs: 1 there, None in rank 0"),
    ],
)
def test_the_first_difference_is_named(change, message):
    found = disagreement([FACTS, dict(FACTS), {**FACTS, **change}, {**FACTS, "seed": 9}])
    assert found is not None
    assert re.search(message, found[0]), found[0]
