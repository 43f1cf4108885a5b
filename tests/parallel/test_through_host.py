"""Gradients on a card: which card a rank takes, and the way of a bucket to MPI and back."""

import numpy as np
import pytest

from minet.parallel.buckets import Bucket
from minet.parallel.through_host import Staged, visible_card


@pytest.mark.parametrize(
    "here, devices, count, card",
    [
        (0, None, 0, None),  # no card
        (1, None, 2, "1"),
        (3, None, 2, "1"),  # more ranks than cards
        (1, "4,6", 8, "6"),  # what the user or the cluster allows
        (2, "GPU-a,GPU-b", 8, "GPU-a"),
        (1, "3", 8, "3"),
        (0, "", 2, None),  # all are hidden
    ],
)
def test_each_rank_of_a_machine_takes_a_card(here, devices, count, card):
    assert visible_card(here, devices, count) == card


class Card:
    """A backend's calls that `Staged` makes, on NumPy arrays, noted."""

    def __init__(self):
        self.calls, self.drv, self.stream = [], self, self

    def pagelocked_empty(self, shape, dtype):
        return np.zeros(shape, dtype)

    def address(self, array):
        return array

    def memcpy_dtoh_async(self, here, there, stream):
        self.calls.append("out")
        here[...] = there

    def memcpy_htod_async(self, there, here, stream):
        self.calls.append("back")
        there[...] = here

    def synchronize(self):
        self.calls.append("wait")


@pytest.mark.parametrize("aware", [False, True])
def test_a_bucket_goes_through_the_host_unless_mpi_reads_the_card(aware):
    card, there = Card(), np.arange(4, dtype=np.float32)
    staged = Staged(card, Bucket(0, there, ["a"]), aware)
    staged.leave()
    assert (staged.bucket.values is there) == aware
    assert staged.bucket.values.tolist() == [0, 1, 2, 3]
    staged.bucket.values *= 2  # as MPI sums
    staged.come_back()
    assert there.tolist() == [0, 2, 4, 6]
    assert card.calls == (["wait"] if aware else ["out", "wait", "back"])
