"""How many threads a rank takes."""

import pytest

from minet.parallel.threads import share_of


@pytest.mark.parametrize(
    "mine, others, threads",
    [
        ([0], [[1]], 1),  # each bound to a core
        ([0, 1], [[2, 3]], 2),  # each to a part
        ([0, 1, 2, 3], [[0, 1, 2, 3]], 2),  # two share all
        ([0, 1, 2, 3], [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]], 2),  # two to each of two packages
        ([0, 1], [[0, 1]] * 3, 1),  # more ranks than cores
        ([5, 9, 11], [], 3),  # a container's cores
    ],
)
def test_no_core_gets_two_threads(mine, others, threads):
    assert share_of(mine, [mine, *others]) == threads
